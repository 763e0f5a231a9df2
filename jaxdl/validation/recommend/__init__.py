"""Which use of a pretrained network suits given examples?"""
