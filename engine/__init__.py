"""The works: makes video and knows no screen. Importing it loads no torch."""
