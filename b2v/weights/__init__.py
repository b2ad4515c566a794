"""Weights: cards, files, the order in which they are looked for, downloads, conversions.

A model has a card, `<model>.json`, and one safetensors file for each of its networks. This
package alone uses safetensors and huggingface_hub; the latter is imported only when something
must be downloaded.
"""
