"""Texts of twelve languages, and texts that are none of them."""

import pytest

from taia.evaluation.tasks.languages import language_of

TEXTS = {
    "en": "A bridge is built so that people can cross the river without getting wet.",
    "fr": "Un pont permet aux gens de passer sur la rivière, et il est souvent en pierre.",
    "de": "Eine Brücke führt über den Fluss, und die Leute werden dabei nicht nass.",
    "es": "El sueño es importante porque el cuerpo y la mente descansan por la noche.",
    "it": "Il pane è buono quando è fresco, e non si butta via quello del giorno prima.",
    "zh": "法国的首都是巴黎，它以埃菲尔铁塔闻名。",
    "ja": "桜の花は春に咲き、とても美しいです。",
    "ko": "다리는 강을 건너기 위해 만듭니다.",
    "ru": "Книга — это собрание страниц, на которых что-то написано.",
    "el": "Η γέφυρα περνά πάνω από το ποτάμι.",
    "ar": "الجسر يعبر فوق النهر.",
    "hi": "पुल नदी के ऊपर से जाता है।",
}


@pytest.mark.parametrize(("code", "text"), TEXTS.items())
def test_a_language_is_told(code, text):
    assert language_of(text) == code
    assert language_of(text.upper()) == code
    assert language_of(f"1. {text} (2024!)") == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123 …",
        "Paris, London, Rom",
        3 * TEXTS["zh"] + TEXTS["en"],
        "Most kalap kabat esernyő",
    ],
)
def test_what_is_no_one_language_is_none(text):
    assert language_of(text) == ""
