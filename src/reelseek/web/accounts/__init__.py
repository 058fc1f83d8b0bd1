"""Accounts: who may do what on which libraries, how they prove who they are, and the log of all that they change."""
