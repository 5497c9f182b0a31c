"""What is known (the ledger): one package a database, all behind ``base.State``."""
