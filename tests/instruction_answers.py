"""An answer that keeps all rules of a prompt, made of the rules alone; it need make no sense."""

import json

#: Sentences of a language, without commas; the letters a, e and z are in none of the English words.
SENTENCES = {
    "en": "Sun is up",
    "fr": "La ville est une des plus belles du pays",
    "de": "Das ist nicht der Wind und auch nicht die Sonne",
    "es": "El sueño es bueno para las personas y los animales",
    "it": "Il pane è una delle cose che non si dimenticano",
    "ru": "Книга хранит мысли многих людей",
    "zh": "这是一个美丽的地方",
    "ja": "さくらの花がとてもきれいに咲いています",
}


def answer_to(rules):
    """An answer that keeps each of the rules of the data file."""
    by_name = {rule["rule"]: rule for rule in rules}
    if "json_object" in by_name:
        return json.dumps(dict.fromkeys(by_name["json_object"]["keys"], "sun"), ensure_ascii=False)
    if "one_of" in by_name:
        return by_name["one_of"]["options"][0]
    text = _dressed(_structured(by_name, rules), by_name)
    if "lowercase" in by_name:
        text = text.lower()
    return text.upper() if "capitals" in by_name else text


def _structured(by_name, rules):
    """The text with its words, sentences and parts, but no beginning and end of its own."""
    code = by_name.get("language", {}).get("code", "en")
    stop = "。" if code in ("zh", "ja") else "."
    filler = SENTENCES[code]
    words = _wanted(by_name, rules)
    last = by_name.get("ends", {}).get("phrase", "")
    sentences = by_name.get("sentences", {})
    count = sentences.get("exactly", sentences.get("at_least", 1))
    # What the answer ends with is a sentence by itself, or the end of its last one.
    said = count - 1 if last and "sentences" in by_name else count
    parts = [filler] * said
    if words:
        parts[0] = f"{filler}{''.join(words)}" if code == "zh" else " ".join([filler, *words])
    if "characters" in by_name:
        parts *= 1 + by_name["characters"].get("at_least", 0) // len(filler)
    least = by_name.get("words", {}).get("at_least", 0)
    parts[0] += " sun" * max(0, least - 2 * said)
    prose = ("" if code in ("zh", "ja") else " ").join(f"{part}{stop}" for part in parts)
    starts = {one["paragraph"]: one["word"] for one in rules if one["rule"] == "paragraph_starts"}
    if "paragraphs" in by_name:
        many = by_name["paragraphs"]["exactly"] - ("postscript" in by_name)
        return "\n\n".join(f"{starts.get(n, 'Sun')} {prose}" for n in range(1, many + 1))
    if "lines" in by_name:
        return "\n".join([prose, *["Sun."] * (by_name["lines"]["exactly"] - 1)])
    if "bullets" in by_name:
        return "\n".join([f"- {prose}", *[f"- {filler}"] * (by_name["bullets"]["exactly"] - 1)])
    if "numbered" in by_name:
        return "\n".join(f"{n}. {prose}" for n in range(1, by_name["numbered"]["exactly"] + 1))
    if "sections" in by_name:
        word, many = by_name["sections"]["word"], by_name["sections"]["exactly"]
        return "\n".join(f"{word} {n}\n{prose}" for n in range(1, many + 1))
    if "two_answers" in by_name:
        return f"{prose}\n{by_name['two_answers']['mark']}\nSun."
    return prose


def _wanted(by_name, rules):
    """Words and marks that must be there."""
    found = list(by_name.get("includes", {}).get("phrases", ()))
    for rule in rules:
        if rule["rule"] == "mentions":
            found += [rule["phrase"]] * rule.get("exactly", rule.get("at_least", 0))
    if "letter" in by_name:
        found += [by_name["letter"]["letter"]] * by_name["letter"].get("at_least", 0)
    found += ["*sun*"] * by_name.get("highlights", {}).get("at_least", 0)
    found += ["[sun]"] * by_name.get("placeholders", {}).get("at_least", 0)
    return found + ["SUN"] * by_name.get("capital_words", {}).get("at_least", 0)


def _dressed(text, by_name):
    """The text with what it begins and ends with."""
    if "title" in by_name:
        text = f"<<Sun>>\n{text}"
    if "starts" in by_name:
        text = f"{by_name['starts']['phrase']} {text}"
    if "repeats" in by_name:
        text = f"{by_name['repeats']['text']}\n{text}"
    if "postscript" in by_name:
        text = f"{text}\n\n{by_name['postscript']['marker']} Sun."
    if "ends" in by_name:
        text = f"{text}\n{by_name['ends']['phrase']}"
    return f'"{text}"' if "quoted" in by_name else text
