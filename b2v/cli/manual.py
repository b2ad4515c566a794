"""Examples that stand below the help of each command.

A test reads every line of them by the parser of its command.
"""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "extract": (
        ("b2v extract photo.jpg", "writes photo_b2v.mp4 beside the photo"),
        ("b2v extract photo.jpg -o clip.gif --order boomerang", "there and back"),
        ("b2v extract photo.jpg -o frames/", "seven PNG in a folder"),
        ("b2v extract photo.jpg -o frames/ -f tiff", "TIFF instead; 16 bits where the photo has"),
        ("b2v extract photo.jpg -o clip.mov --codec prores", "for an editor of films"),
        ("b2v extract photo.jpg -o sharp.jpg", "one sharp picture, not a clip"),
        ("b2v extract photo.jpg --still --strength 0.7", "photo_sharp.jpg, three tenths the photo"),
        ("b2v extract photo.jpg --quality best", "all three stages of MAXIM; takes longer"),
        ("b2v extract holiday -r -o clips --skip-existing", "a tree of photos; goes on"),
        ("b2v extract holiday -r -o sharp --still", "a tree of sharp pictures"),
        ("b2v extract '*.jpg' -f webp --dry-run", "what would be written where"),
        ("b2v extract holiday -r -o clips --shard 2/8", "the second of eight jobs"),
        ("b2v extract photo.jpg --preview 512", "a square of the middle, and what all would take"),
        ("b2v extract photo.jpg --middle sharp.png", "with another deblurrer's middle frame"),
    ),
    "deblur": (
        ("b2v deblur walk.mp4", "writes walk_deblurred.mp4 beside it"),
        ("b2v deblur walk.mp4 --preview 3 --compare side", "three seconds, before and after"),
        ("b2v deblur walk.mov -o walk.mkv --codec hevc --crf 18", "encoded as you like"),
        ("b2v deblur walk.mp4 --resume", "goes on with a run that was stopped"),
        ("b2v deblur films -r -o restored --skip-existing --resume", "a tree of videos"),
        ("ffmpeg -i cam.ts -f matroska - | b2v deblur - -o - | ffplay -", "in a pipe"),
    ),
    "slowmo": (
        ("b2v slowmo walk.mp4", "four times slower"),
        ("b2v slowmo walk.mp4 --slower 8 --preview 2 --sound", "two seconds of it, with sound"),
        ("b2v slowmo films -r -o slow --skip-existing", "a tree of videos; goes on"),
    ),
    "demo": (("b2v demo", "writes the clip into this folder"),),
    "eval": (
        ("b2v eval windows", "scores of the weights that b2v extract takes"),
        ("b2v eval windows --weights runs/b2v/weights --json", "of your own, for a program"),
    ),
    "synth-dataset": (
        ("b2v synth-dataset videos photos -o windows", "blurry pictures and their sharp frames"),
        ("b2v synth-dataset videos -o gopro --recipe gopro", "as the GoPro set was made"),
    ),
    "train": (
        ("b2v train --data photos --data videos --stage 1", "the middle frame"),
        ("b2v train --data photos --stage 1 --resume", "goes on, bit for bit"),
        ("b2v train -m blend --data videos --run runs/blend", "for deblur --quality fast"),
    ),
    "study": (
        (
            "b2v study coded --data photos --eval windows -o studies/coded --steps 600",
            "600 steps for each network, then a table",
        ),
    ),
    "bench": (
        ("b2v bench", "photos at each quality, a frame of video, a step of training"),
        ("b2v bench -m maxim-1 --size 4000x3000 --json", "one model on 12 MP, for a program"),
    ),
    "doctor": (
        ("b2v doctor", "a line for everything that matters"),
        ("b2v doctor --json", "for a program; exit code 1 if something fails"),
    ),
    "weights list": (("b2v weights list --json", "for a program"),),
    "weights path": (("b2v weights path unet prior", "the file of one network"),),
    "weights verify": (
        ("b2v weights verify", "all that is here"),
        ("b2v weights verify maxim-3", "one model"),
    ),
    "weights download": (
        ("b2v weights download hf://owner/repo@v1/name.json", "a card and its networks"),
        ("HF_ENDPOINT=https://mirror.example b2v weights download unet", "from a mirror"),
    ),
    "weights import": (
        ("b2v weights import center_v3.pth F35_N8.pth", "two of the authors' four files"),
        ("b2v weights import maxim.safetensors", "all stages of MAXIM-3S"),
    ),
    "weights average": (
        (
            "b2v weights average early.safetensors late.safetensors -o mean.safetensors",
            "of two times",
        ),
    ),
    "weights rm": (("b2v weights rm name --dry-run", "what would be deleted"),),
    "weights publish": (
        ("b2v weights publish runs/b2v/weights/b2v.json me/b2v -o look", "look before"),
        ("HF_TOKEN=hf_... b2v weights publish unet me/unet --private", "for yourself alone"),
    ),
}


def examples(command: str) -> str | None:
    """Write the examples of a command for the end of its help, one in a paragraph."""
    lines = [f"{line}   # {about}" for line, about in EXAMPLES[command]]
    return "\n\n".join(["Examples:", *lines]) if lines else None
