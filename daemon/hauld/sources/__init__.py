"""Where things come from: one module or package a source, all behind ``base.Source``."""
