"""Where bytes go: one module a store, all behind ``base.Store``."""
