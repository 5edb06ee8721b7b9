"""Texts that tokenizers trip over: a fixed list, and random mixtures of the same ingredients."""

CONTROL_TEXTS = [
    "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<0x41>", "<0x0A>",
    "<s", "/s>", "<<s>>", "<s></s>", " <s> ", "a<s>b", "▁<s>", "<|endoftext", "[[INST]]", "<tool>", "<mask>", "x<mask>y",
    " <mask> ", "  <mask>  <mask>", "<word>", "a<word>", "<word>a", "<word>.", "Éclair", "<tool><tool>", "<TOOL>",
]

FIXED = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "a", " a", "a ", "  a  b   c    ", "\u00a0", "\u3000x\u2003y",
    "Hello world", "Hello, world!", "The quick brown fox jumps over the lazy dog.", "I'm we've they'll it's you'd don't",
    "I'M WE'VE THEY'LL IT'S", "rock'n'roll 'tis 's 't", "l'été d'Élise", "1", "12", "123", "1234", "12345678", "3.14159",
    "1,000,000.00", "٣٤٥ ४५६ ⅷ ½ ²", "x1y22z333", "snake_case CamelCase kebab-case", "a" * 50, "ab" * 40, "supercalifragilistic",
    "e\u0301 o\u0308 n\u0303", "é ö ñ", "ﬁ ﬂ Å Å Ω", "a\u0300\u0301\u0302\u0303b", "\u0301", "สวัสดีชาวโลก", "ภาษาไทย ๑๒๓",
    "你好,世界!", "我们今天去北京。", "こんにちは世界", "カタカナ", "안녕하세요 세계", "مرحبا بالعالم", "שלום עולם", "Привет, мир!",
    "नमस्ते दुनिया", "አማርኛ", "ᚠᛇᚻ", "😀", "😀😀😀", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "text 🦙 text", "\ufe0f", "\u200b", "\u200d", "\ufeff",
    "\x00", "a\x00b", "\x01\x02\x7f", "\x1b[31m", "\u0085", "\u2028\u2029", "\U0010ffff", "\ufffd", "\ufffe", "\ue000",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐍈", "▁", "▁▁", "▁a", "a▁b", "Ġ", "Ġhello", "Ċ", "ÃŸ", "ß", "İstanbul", "ΣΑΣ",
    "def f(x):\n    return x ** 2\n", "{\"a\": [1, 2, {\"b\": null}]}", "<html><body>&nbsp;</body></html>", "https://example.com/?q=1&r=%20",
    "a\n\n\nb", "a \n b", "a\r\n\r\nb", "\t\tx", "    indented", "trailing   ", "a  \n  \n  b", "!!!???...", "---", "=====", "#include <x>",
    "~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./", "¿Qué? ¡Sí!", "“quotes” ‘single’ — dash…", "$100 €50 £20 ¥5", "C++ C# F#",
    "the of and to in that is was he for it with as his on be at by i this had not are but from or have an they which one",
] + CONTROL_TEXTS

_INGREDIENTS = [
    list("abcdefghijklmnopqrstuvwxyz"), list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), list("0123456789"), list(" " * 8 + "\n\n\t\r"),
    list(".,;:!?'\"-_()[]{}<>/\\|@#$%^&*+=~`"), list("éèüöäñçøåßÿ"), list("абвгдежзийклмн"), list("你我他好世界中国人大"), list("กขคงจฉชซ้ี่"),
    list("ابتثجحخدذر"), list("अआइईउऊक्खि"), list("가나다라마바사"), list("😀🦙👍🏽❤️‍🔥🇩🇪"), list("\u0300\u0301\u0308\u0323\u200d\u200b\ufe0f"),
    list("\x00\x01\x1b\x7f\u0085\u00a0\u2003\u2028\u3000\ufeff"), list("▁Ġġ▂"), ["the", "and", "ing", " of", " to", "'s", "'LL", "tion", "ment"],
    CONTROL_TEXTS, FIXED,
]


def random_string(rng):
    """A mixture of one to four kinds of ingredients, mostly short."""
    kinds = rng.sample(_INGREDIENTS, rng.randint(1, 4))
    length = rng.choice([1, 2, 3, 5, 8, 13, 21, 40])
    return "".join(rng.choice(rng.choice(kinds)) for _ in range(length))


def any_code_points(rng):
    """Random code points of the planes in use, assigned long ago or never."""
    blocks = [(0x20, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x5D0, 0x5EA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF)]
    return "".join(chr(rng.randint(*rng.choice(blocks))) for _ in range(rng.randint(1, 30)))
