"""One file per --mode. Only this package sees a ConfigDict."""
