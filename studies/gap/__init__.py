"""Why did the same code score F1 = 1 on one system and 0.44 on another?"""
