"""How media files are named."""

__all__ = ["MEDIA_SUFFIXES", "without_media_suffix"]

# By family: what phones, cameras, camcorders (.mod .tod .mts), recorders, editors and old players call those formats.
MEDIA_SUFFIXES = frozenset(
    (
        ".mp4 .m4v .m4a .m4b .m4r .mov .qt .hdmov .3gp .3gpp .3g2 .3gp2 .3gpp2 .f4v .f4p .f4a .f4b .mj2 .mjp2 .ismv "
        ".isma .insv .lrv .360 .cmfv .cmfa "
        ".mkv .mk3d .mka .webm .weba .avi .divx .xvid .asf .wmv .wma .wm .dvr-ms .wtv .flv "
        ".mpg .mpeg .mpv .m1v .m2v .m2p .m2a .mp2 .mp3 .mpa .vob .vro .evo .mod .tod .ts .m2t .m2ts .mts .mt2s .tp "
        ".mpe .trp .trec .ogg .oga .ogv .ogm .ogx .opus .spx .rm .rmvb .ra .rv "
        ".dv .dif .mxf .gxf .lxf .nut .nuv .nsv .pva .ty .ty+ .dav .amv .bik .bk2 .smk .roq .fli .flc .viv .swf .gif "
        ".apng .y4m .ivf .obu .h264 .h26l .264 .avc .h265 .265 .hevc .h266 .266 .vvc .vc1 .drc .cavs "
        ".aac .adts .loas .ac3 .eac3 .ec3 .dts .dtshd .mlp .thd .amr .awb .aif .aiff .aifc .ape .au .snd .caf .dsf "
        ".flac .mpc .oma .omg .aa3 .qcp .tak .tta .voc .w64 .wav .wave .bwf .rf64 .wv"
    ).split()
)


def without_media_suffix(name: str) -> str:
    """A name without `.mp4` and its like; what follows another dot belongs to the name (`clip.5`)."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in MEDIA_SUFFIXES else name
