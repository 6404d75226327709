"""One file per subcommand, with a function of the same name; they import what is slow only when they run."""
