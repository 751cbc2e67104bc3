"""What do other backbones cost, and what do they give?"""
