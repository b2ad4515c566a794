"""Photos, clips and videos between files and tensors: RGB, sRGB-encoded, in [0, 1].

The modules of this folder are the only users of PIL, av and imageio in the package. Output
appears under its name only when it is complete; every failure is one line that names the file.
"""
