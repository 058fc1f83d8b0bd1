"use strict";
// Before anything is painted: light or dark as the visitor chose, else as the system has it.
{
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
