#!/usr/bin/env python3
"""Generates assets/chat/*.ttf, the chat window's embedded fonts: Inter (variable weight, subset to the characters that
the window needs), the Phosphor icons that it shows, and Noto's Arabic and Hebrew.

    pip install fonttools brotli
    chat-fonts.py InterVariable.woff2 Phosphor.ttf NotoSansArabic-Regular.ttf NotoSansHebrew-Regular.ttf

Sources:

* Noto: Debian package fonts-noto-core 20201225-1 (OFL-1.1). A web page cannot read the system's fonts, and a browser
  draws missing characters one at a time, which leaves Arabic unjoined.
* Inter: npm package inter-ui 4.1.1, web/InterVariable.woff2 (OFL-1.1).
* Phosphor: crate egui-phosphor 0.14.0, res/Phosphor.ttf (MIT). src/chat/icons.rs names the code points of the icons.
"""
import io
import pathlib
import re
import sys

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

ROOT = pathlib.Path(__file__).resolve().parent.parent
LETTERS = "U+0020-024F,U+0259,U+02BC-02DD,U+0300-036F,U+0370-03FF,U+0400-04FF,U+1E00-1EFF,U+2000-206F,U+2070-209C," \
    "U+20A0-20BF,U+2100-214F,U+2150-218F,U+2190-21FF,U+2200-22FF,U+2318,U+2325,U+21E7,U+2423,U+2460-2473,U+25A0-25CF,U+2713-2717"


def cut(font, unicodes, features):
    """Subsets the font to these code points."""
    options = subset.Options()
    options.layout_features = features
    options.name_IDs = ["*"]
    options.notdef_outline = True
    options.hinting = False
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=unicodes)
    cutter.subset(font)
    small = io.BytesIO()
    font.save(small)
    return TTFont(small)


def loosen(font, part):
    """Adds space above and below lines, as a fraction of the em size, to make whole paragraphs easier to read."""
    more = round(font["head"].unitsPerEm * part)
    hhea, os2 = font["hhea"], font["OS/2"]
    hhea.ascent, hhea.descent, hhea.lineGap = hhea.ascent + more, hhea.descent - more, 0
    os2.sTypoAscender, os2.sTypoDescender, os2.sTypoLineGap = hhea.ascent, hhea.descent, 0
    os2.usWinAscent, os2.usWinDescent = hhea.ascent, -hhea.descent


def main():
    inter, phosphor, arabic, hebrew = sys.argv[1:]
    out = ROOT / "assets" / "chat"
    font = TTFont(inter)
    font.flavor = None
    font = cut(font, subset.parse_unicodes(LETTERS), ["kern", "mark", "mkmk", "ccmp", "locl"])
    # Text sizes only: pins the optical size axis to its smallest, and limits the weight axis to the range in use.
    font = instancer.instantiateVariableFont(font, {"opsz": 14, "wght": (400, 700)})
    loosen(font, 0.11)
    font.save(out / "inter.ttf")
    icons = re.findall(r"\\u\{([0-9a-f]+)\}", (ROOT / "src" / "chat" / "icons.rs").read_text())
    font = cut(TTFont(phosphor), [int(code, 16) for code in icons], [])
    # The file gives every glyph a left side bearing of 0, which would shift it: use the outline's left edge.
    for name, (advance, _) in font["hmtx"].metrics.items():
        font["hmtx"].metrics[name] = (advance, getattr(font["glyf"][name], "xMin", 0))
    font.save(out / "phosphor.ttf")
    font = cut(TTFont(arabic), subset.parse_unicodes("U+0600-06FF,U+0750-077F,U+200C-200F"), ["*"])
    font.save(out / "arabic.ttf")
    font = cut(TTFont(hebrew), subset.parse_unicodes("U+0590-05FF,U+FB1D-FB4F"), ["*"])
    font.save(out / "hebrew.ttf")


main()
