"""What a training comes to on chips that are not here: does it fit, what does a step do, how long does all take?"""
