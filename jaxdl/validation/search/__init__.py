"""Which configuration is best, and how good is what such a search finds?"""
