"""Jobs: commands that change or measure a library, queued, run as processes, followed, cancelled and run again."""
