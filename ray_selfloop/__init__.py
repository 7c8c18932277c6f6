"""ray_selfloop: does training on generated data amplify bias across generations?"""

__version__ = "0.1.0"
