"""The compare page in a browser, on a server that says what it is told to."""

from __future__ import annotations

import json
import re
from threading import Event
from urllib.parse import urlsplit

import pytest

from fake_openai import CUT, HOLD, FakeServer, Refusal, running

#: Names that no word of the page holds.
MODES = ("zebra", "walrus", "ibex")
TEXTS = {
    "base": "The cat sat on the mat.",
    "tuned": "The dog sat on a mat.",
    "taia": "The cat sat on the red mat.",
}


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def ask(page, prompt="Why?"):
    page.fill("[name=prompt]", prompt)
    page.press("[name=prompt]", "Control+Enter")


def finish(page, text="answers are there"):
    expect(page.locator("#status")).to_contain_text(text)


def columns(page):
    """Column's name → text."""
    return {
        column.locator("h2").inner_text(): column.locator(".answer").text_content()
        for column in page.locator(".column").all()
    }


def stored(page, name):
    return json.loads(page.evaluate("name => localStorage.getItem('taia.' + name)", name) or "null")


def test_streams_appear_in_their_own_columns(serve, visit):
    gates = {mode: Event() for mode in ("base", "tuned", "taia", "taif")}
    scripts = {
        mode: [f"{mode}-1 ", gate, f"{mode}-2\n\n", "你好 ", f"{mode}-3"]
        for mode, gate in gates.items()
    }
    fake = serve(scripts, {"base": "none", "taia": "all - mlp"})
    page = visit(fake.url)
    page.click("summary")
    page.fill("[name=system]", "Be brief.")
    page.fill("[name=temperature]", "0.7")
    page.fill("[name=max_tokens]", "33")
    page.fill("[name=seed]", "5")
    ask(page, "Why?\nReally?")
    answers = page.locator(".answer")
    for index, mode in enumerate(gates):
        expect(answers.nth(index)).to_have_text(f"{mode}-1")
        expect(answers.nth(index)).to_have_attribute("aria-busy", "true")
    last, *others = reversed(gates)
    gates[last].set()
    expect(answers.nth(3)).to_have_attribute("aria-busy", "false")
    assert columns(page) == {
        last: f"{last}-1 {last}-2\n\n你好 {last}-3",
        **{mode: f"{mode}-1 " for mode in others},
    }
    for mode in others:
        gates[mode].set()
    finish(page)
    assert columns(page) == {mode: f"{mode}-1 {mode}-2\n\n你好 {mode}-3" for mode in gates}
    assert list(columns(page)) == list(gates)
    expect(page.locator(".selection").nth(2)).to_have_text("all - mlp")
    expect(page.locator(".figures").nth(0)).to_contain_text(re.compile(r"^40 tokens · [\d.]+ s"))
    assert {body["model"] for body in fake.asked} == set(gates)
    for body in fake.asked:
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?\nReally?"},
        ]
        settings = (body["temperature"], body["max_tokens"], body["seed"], body["stream"])
        assert settings == (0.7, 33, 5, True)


def test_without_system_prompt_or_seed_none_is_sent(serve, visit):
    fake = serve({"base": ["a"]})
    page = visit(fake.url)
    page.fill("[name=seed]", "")
    ask(page)
    finish(page)
    assert "seed" not in fake.asked[0]
    assert [message["role"] for message in fake.asked[0]["messages"]] == ["user"]


def test_differences_mark_the_right_words(serve, visit):
    page = visit(serve({**{m: [t] for m, t in TEXTS.items()}, "same": [TEXTS["base"]]}).url)
    ask(page)
    finish(page)

    def marks(tag):
        return [column.locator(tag).all_inner_texts() for column in page.locator(".column").all()]

    assert marks("ins") == [[], ["dog", "a"], ["red"], []]
    assert marks("del") == [[], [], [], []]
    # Not by colour alone.
    line = "e => getComputedStyle(e).textDecorationLine"
    assert page.locator("ins").first.evaluate(line) == "underline"
    expect(page.locator(".likeness").nth(3)).to_have_text("the same as base")
    expect(page.locator(".likeness").nth(2)).to_have_text("13% differs from base")
    page.check("#gone")
    assert marks("del") == [[], ["cat", "the"], [], []]
    assert page.locator("del").first.evaluate(line) == "line-through"
    page.uncheck("#gone")
    page.select_option("#reference", "tuned")
    assert marks("ins") == [["cat", "the"], [], ["cat", "the red"], ["cat", "the"]]
    page.select_option("#reference", "")
    assert marks("ins") == [[], [], [], []]
    assert list(columns(page).values())[:3] == list(TEXTS.values())
    page.select_option("#reference", "taia")
    page.reload()
    expect(page.locator("#reference")).to_have_value("taia")


def test_escape_stops_every_answer(serve, visit):
    fake = serve({"base": ["one ", HOLD], "taia": ["two ", HOLD], "tuned": ["whole"]})
    page = visit(fake.url)
    ask(page)
    expect(page.locator(".answer").nth(1)).to_have_text("two")
    expect(page.locator(".answer").nth(2)).to_have_attribute("aria-busy", "false")
    expect(page.locator("#stop")).to_be_enabled()
    page.keyboard.press("Escape")
    assert {fake.left.get(timeout=30), fake.left.get(timeout=30)} == {"base", "taia"}
    finish(page, "Stopped.")
    assert columns(page) == {"base": "one ", "taia": "two ", "tuned": "whole"}
    expect(page.locator(".figures").nth(0)).to_contain_text("stopped")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#send")).to_be_enabled()


def test_a_blind_vote_hides_names_and_counts_the_right_mode(serve, visit):
    texts = {mode: f"answer {index}" for index, mode in enumerate(MODES)}
    gate = Event()
    page = visit(serve({mode: [text, gate] for mode, text in texts.items()}).url)
    page.check("[name=blind]")
    won = dict.fromkeys(MODES, 0)

    def names():
        parts = page.locator("#tabs, #columns, #ballot, #status")
        html = "".join(parts.evaluate_all("parts => parts.map(part => part.outerHTML)"))
        return [mode for mode in MODES if mode in html]

    for key in "1233":
        gate.clear()
        ask(page)
        for index in range(3):
            expect(page.locator(".answer").nth(index)).to_contain_text("answer")
        assert names() == []
        gate.set()
        expect(page.locator("#ballot")).to_be_visible()
        assert names() == []
        assert list(columns(page)) == ["A", "B", "C"]
        assert page.locator("#columns svg, #tabs svg").count() == 0
        assert not re.search(r"[\d.] s\b", page.locator("#columns").inner_text())
        expect(page.locator("#copy-link")).to_be_disabled()
        expect(page.locator("ins")).to_have_count(0)
        chosen = columns(page)["ABC"[int(key) - 1]]
        page.keyboard.press(key)
        expect(page.locator("#ballot")).to_be_hidden()
        assert {name.split("\n")[0]: text for name, text in columns(page).items()} == texts
        mode = next(mode for mode, text in texts.items() if text == chosen)
        won[mode] += 1
        expect(page.locator(".chosen h2")).to_contain_text(mode)
        finish(page, f"Counted for {mode}.")
    rows = page.locator("#tally tbody tr").all_inner_texts()
    counted = {row.split()[0]: int(re.search(r"(\d+) of 4", row)[1]) for row in rows}
    assert counted == won


def test_ties_export_and_reset(serve, visit):
    page = visit(serve({"base": ["a"], "taia": ["b"]}).url)
    page.check("[name=blind]")
    ask(page)
    expect(page.locator("#ballot")).to_be_visible()
    page.keyboard.press("7")
    page.keyboard.press("0")
    finish(page, "Counted as a tie.")
    with page.expect_download() as download:
        page.click("#export")
    exported = json.loads(download.value.path().read_text())
    assert [(vote["prompt"], vote["modes"], vote["best"]) for vote in exported["votes"]] == [
        ("Why?", ["base", "taia"], [])
    ]
    assert [(row["mode"], row["tied"], row["decided"]) for row in exported["tally"]] == [
        ("base", 1, 0),
        ("taia", 1, 0),
    ]
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#reset")
    assert len(stored(page, "votes")) == 1
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#reset")
    assert stored(page, "votes") == []
    expect(page.locator("#tally")).to_be_hidden()


def test_answers_that_were_cut_short_are_not_voted_on(serve, visit):
    page = visit(serve({"base": ["a"], "taia": ["b", CUT]}).url)
    page.check("[name=blind]")
    ask(page)
    finish(page, "Not every mode has answered.")
    assert columns(page) == {"base": "a", "taia": "b"}
    expect(page.locator("#ballot")).to_be_hidden()
    assert stored(page, "votes") is None


def test_a_link_restores_everything_elsewhere(serve, visit):
    fake = serve(
        {mode: [text] for mode, text in TEXTS.items()}, {"taia": "all - mlp"}, key="s3cret"
    )
    page = visit(fake.url, permissions=["clipboard-read", "clipboard-write"])
    page.click("text=Enter the key")
    page.fill("[name=key]", "s3cret")
    page.click("#key >> text=Save")
    page.click("summary")
    page.fill("[name=system]", "Sei kurz. 你好 🐈")
    page.fill("[name=temperature]", "0.25")
    page.fill("[name=max_tokens]", "77")
    page.fill("[name=seed]", "")
    ask(page, "Why?\n<b>&")
    finish(page)
    page.click("#copy-link")
    finish(page, "The link is in the clipboard.")
    link = page.evaluate("navigator.clipboard.readText()")
    assert "s3cret" not in page.evaluate("JSON.stringify(localStorage)")
    # A server with other modes: the link's are shown all the same.
    other = serve({"mine": ["x"]})
    guest = visit(other.url + "#" + urlsplit(link).fragment)
    finish(guest, "From a link.")
    assert columns(guest) == TEXTS
    assert guest.locator(".selection").all_inner_texts() == ["", "", "all - mlp"]
    assert guest.locator(".figures").all_inner_texts() == page.locator(".figures").all_inner_texts()
    fields = ("prompt", "system", "temperature", "max_tokens", "seed")
    values = [guest.input_value(f"[name={name}]") for name in fields]
    assert values == ["Why?\n<b>&", "Sei kurz. 你好 🐈", "0.25", "77", ""]
    assert other.asked == []
    ask(guest)
    finish(guest)
    assert columns(guest) == {"mine": "x"}
    assert "#" not in guest.url


@pytest.mark.parametrize("fragment", ["#round=!", "#round=AAAA", "#round=q1YqSVWyUlCqBQA"])
def test_a_damaged_link_is_told(serve, visit, fragment):
    page = visit(serve({"base": ["a"]}).url + fragment)
    finish(page, "The link cannot be read.")
    ask(page)
    finish(page)


def test_without_a_clipboard_the_text_is_there_to_copy(serve, visit):
    page = visit(serve({"base": ["a"]}).url)
    ask(page)
    finish(page)
    page.evaluate("delete Navigator.prototype.clipboard")
    page.click("#copy-markdown")
    expect(page.locator("#copy")).to_be_visible()
    assert "**base**: 10 tokens" in page.input_value("#copy textarea")
    selected = "document.activeElement.selectionEnd - document.activeElement.selectionStart"
    assert page.evaluate(selected) == len(page.input_value("#copy textarea"))


HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script></div><b>b</b>'


def test_what_a_model_or_a_link_says_is_text(serve, visit):
    fake = serve({HOSTILE: [HOSTILE], "base": ["base ", HOSTILE]}, {HOSTILE: HOSTILE})
    page = visit(fake.url, permissions=["clipboard-read", "clipboard-write"])

    def is_inert(page):
        assert columns(page)[HOSTILE] == HOSTILE
        assert page.locator("main >> css=img, script, b").count() == 0
        assert page.evaluate("window.hacked") is None

    ask(page, HOSTILE)
    finish(page)
    is_inert(page)
    page.check("#gone")
    page.uncheck("#gone")
    is_inert(page)
    page.click("#copy-link")
    finish(page, "The link is in the clipboard.")
    guest = visit(page.evaluate("navigator.clipboard.readText()"))
    finish(guest, "From a link.")
    is_inert(guest)
    page.click("#open-history")
    expect(page.locator("#history .open")).to_contain_text(HOSTILE)
    page.click("#history .open")
    is_inert(page)


def test_a_refusal_is_told_in_its_column_and_can_be_tried_again(serve, visit):
    fake = serve(
        {
            "base": ["fine"],
            "taia": Refusal(429, headers={"Retry-After": "7"}),
            "tuned": Refusal(400, "The prompt is too long. Send a shorter one."),
            "taif": ["half an", CUT],
        }
    )
    page = visit(fake.url)
    ask(page)
    finish(page, "Not every mode has answered.")
    said = [box.inner_text() for box in page.locator(".column .trouble").all()]
    assert "Try again in 7 s." in said[1]
    assert "The prompt is too long. Send a shorter one." in said[2]
    assert "The answer broke off." in said[3]
    assert said[0] == ""
    assert list(columns(page).values()) == ["fine", "", "", "half an"]
    asked = len(fake.asked)
    fake.scripts["taia"] = ["now"]
    page.locator(".column").nth(1).get_by_text("Try again", exact=True).click()
    expect(page.locator(".answer").nth(1)).to_have_text("now")
    expect(page.locator(".trouble").nth(2)).to_be_hidden()
    assert [body["model"] for body in fake.asked[asked:]] == ["taia"]


def test_the_key_is_asked_for_and_sent(serve, visit):
    fake = serve({"base": ["a"]}, key="s3cret")
    page = visit(fake.url)
    expect(page.locator("#trouble")).to_contain_text("The server asks for an API key.")
    page.click("text=Enter the key")
    page.fill("[name=key]", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_be_visible()
    page.click("text=Enter the key")
    page.fill("[name=key]", "s3cret")
    page.keyboard.press("Enter")
    expect(page.locator(".column")).to_have_count(1)
    expect(page.locator("#trouble")).to_be_hidden()
    ask(page)
    finish(page)
    fake.key = "another"
    ask(page)
    expect(page.locator(".column .trouble")).to_contain_text("The server asks for an API key.")


def test_a_server_that_is_gone_is_told(visit):
    with running(FakeServer({"base": ["a"]})) as fake:
        page = visit(fake.url)
        expect(page.locator(".column")).to_have_count(1)
    ask(page)
    expect(page.locator(".column .trouble")).to_contain_text("The server cannot be reached.")
    expect(page.locator(".column .trouble")).to_contain_text("taia serve")


def test_history_is_leafed_through_and_survives(serve, visit):
    fake = serve({"base": ["first"]})
    page = visit(fake.url)
    ask(page, "one")
    finish(page)
    fake.scripts["base"] = ["second"]
    ask(page, "two")
    expect(page.locator(".answer")).to_have_text("second")
    finish(page)
    page.keyboard.press("Alt+ArrowUp")
    assert (page.input_value("[name=prompt]"), columns(page)) == ("one", {"base": "first"})
    page.keyboard.press("Alt+ArrowUp")
    assert columns(page) == {"base": "first"}
    page.keyboard.press("Alt+ArrowDown")
    assert (page.input_value("[name=prompt]"), columns(page)) == ("two", {"base": "second"})
    page.reload()
    page.click("#open-history")
    assert [row.split("\n")[0] for row in page.locator("#history .open").all_inner_texts()] == [
        "two",
        "one",
    ]
    page.click("[aria-label='Forget: two']")
    page.click("#history .open")
    assert columns(page) == {"base": "first"}
    assert [round_["prompt"] for round_ in stored(page, "history")] == ["one"]


def test_what_storage_holds_may_be_damaged(serve, visit):
    page = visit(serve({"base": ["a"]}).url)
    names = ["history", "votes", "settings", "hidden", "reference"]
    for wrong in ("{", "7", "[1, {}]", '"x"', '{"a": 1}', "null"):
        put = (
            "([names, text]) => names.forEach((name) => localStorage.setItem('taia.' + name, text))"
        )
        page.evaluate(put, [names, wrong])
        page.reload()
        ask(page)
        finish(page)
        assert columns(page) == {"base": "a"}


def test_the_keyboard_is_enough(serve, visit):
    page = visit(serve({"base": ["a"], "taia": ["b", HOLD]}).url)
    expect(page.locator(".column")).to_have_count(2)
    keys = page.keyboard
    keys.press("?")
    expect(page.locator("#help")).to_be_visible()
    expect(page.locator("#help")).to_contain_text("Ctrl")
    keys.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    keys.press("/")
    keys.type("What is 1/2?")
    assert page.input_value("[name=prompt]") == "What is 1/2?"
    expect(page.locator("#help")).to_be_hidden()
    keys.press("Control+Enter")
    expect(page.locator(".answer").nth(1)).to_have_text("b")
    keys.press("Escape")
    finish(page, "Stopped.")
    reached = set()
    for _ in range(40):
        keys.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.id"))
    controls = {"open-history", "open-key", "open-help", "system", "prompt", "temperature"}
    controls |= {"max_tokens", "seed", "blind", "send", "reference", "gone", "copy-link"}
    assert controls - {"system"} <= reached


def test_every_control_has_a_name(serve, visit):
    page = visit(serve({"base": ["a"], "taia": ["b"]}).url)
    expect(page.locator(".column")).to_have_count(2)
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter(e =>"
        " !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.locator(".answer").first.get_attribute("aria-live") == "polite"


def test_a_mode_can_be_left_out(serve, visit):
    fake = serve({mode: [text] for mode, text in TEXTS.items()})
    page = visit(fake.url)
    ask(page)
    finish(page)
    page.uncheck("#modes [value=tuned]")
    assert list(columns(page)) == ["base", "taia"]
    page.check("#modes [value=tuned]")
    assert columns(page) == TEXTS
    page.uncheck("#modes [value=tuned]")
    before = len(fake.asked)
    ask(page)
    finish(page)
    # At once, so in whatever order they arrive.
    assert sorted(body["model"] for body in fake.asked[before:]) == ["base", "taia"]
    page.uncheck("#modes [value=taia]")
    page.locator("#modes [value=base]").click()
    assert list(columns(page)) == ["base"]
    page.reload()
    expect(page.locator(".column")).to_have_count(1)


LONG = "attention[0:16] + 0.5*mlp + 0.25*norm[0:8]"


@pytest.mark.parametrize(
    ("width", "beside"),
    # 640 is a 1280 wide window at 200%.
    [(1600, 4), (1280, 4), (640, 1), (390, 1), (320, 1)],
)
def test_nothing_sticks_out(serve, visit, width, beside):
    page = visit(
        serve({m: ["word " * 60 + "x" * 200] for m in ("base", "tuned", "taia", LONG)}).url
    )
    page.set_viewport_size({"width": width, "height": 800})
    page.check("[name=blind]")
    for vote in (False, True):
        ask(page)
        expect(page.locator("#ballot")).to_be_visible()
        if vote:
            page.keyboard.press("1")
            expect(page.locator("#tally")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = "e => { const box = e.getBoundingClientRect(); return box.right <= innerWidth + 1; }"
    shown = [column.evaluate(inside) for column in page.locator(".column").all()]
    assert sum(shown) == beside
    assert page.locator("#tabs").is_visible() == (beside == 1)


def test_a_tab_leads_to_its_column(serve, visit):
    page = visit(serve({mode: ["x"] for mode in MODES}).url, width=390, reduced_motion="reduce")
    expect(page.locator(".column")).to_have_count(3)
    expect(page.locator("#tabs [aria-current]")).to_have_text(MODES[0])
    page.click(f"#tabs >> text={MODES[2]}")
    expect(page.locator(".column").nth(2)).to_be_in_viewport(ratio=0.9)
    expect(page.locator("#tabs [aria-current]")).to_have_text(MODES[2])


def luminance(colour):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(serve, visit, scheme):
    page = visit(serve({"base": ["a"]}).url, color_scheme=scheme)
    colour = """names => Object.fromEntries(names.map(name => {
      const probe = document.body.appendChild(document.createElement('i'));
      probe.style.color = `var(--${name})`;
      return [name, getComputedStyle(probe).color];
    }))"""
    names = "page text dim soft edge main on-main new bad c0 c1 c2 c3 c4 c5".split()
    found = page.evaluate(colour, names)
    assert (luminance(found["page"]) > 0.5) == (scheme == "light")
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for what bounds a control or carries a meaning (1.4.11).
    pairs = "text/page text/soft text/new dim/page dim/soft main/page on-main/main bad/page"
    for pair in pairs.split():
        assert contrast(*(found[name] for name in pair.split("/"))) >= 4.5, pair
    for name in ("edge", "main", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert contrast(found[name], found["page"]) >= 3, name
        assert contrast(found[name], found["soft"]) >= 3, name


@pytest.mark.parametrize(("motion", "name"), [("reduce", "none"), ("no-preference", "blink")])
def test_nothing_moves_where_no_motion_is_wanted(serve, visit, motion, name):
    page = visit(serve({"base": ["a", HOLD]}).url, reduced_motion=motion)
    ask(page)
    answer = page.locator(".answer[aria-busy=true]")
    assert answer.evaluate("e => getComputedStyle(e, '::after').animationName") == name


def test_a_quick_reader_may_send_before_the_modes_are_here(serve, visit):
    gate = Event()
    fake = serve({"base": ["a"]})
    fake.before_models = gate
    page = visit(fake.url)
    ask(page)
    gate.set()
    finish(page)
    assert columns(page) == {"base": "a"}


def test_the_page_waits_for_a_model_that_is_still_loading(serve, visit):
    fake = serve({"base": ["a"]})
    fake.before_models = Refusal(503, "The model is still being loaded.", {"Retry-After": "5"})
    page = visit("about:blank")
    page.clock.install()
    page.goto(fake.url)
    finish(page, "The model is still being loaded.")
    fake.before_models = None
    page.clock.run_for(6_000)
    expect(page.locator(".column")).to_have_count(1)
    finish(page, "Write a prompt")


def test_a_link_shows_what_its_own_server_kept(serve, visit):
    """Not what a mode of that name keeps on the server that it is opened on."""
    page = visit(
        serve({"base": ["a"], "taia": ["b"]}, {"taia": "attention[1:]"}).url,
        permissions=["clipboard-read", "clipboard-write"],
    )
    ask(page)
    finish(page)
    page.click("#copy-link")
    finish(page, "The link is in the clipboard.")
    fragment = urlsplit(page.evaluate("navigator.clipboard.readText()")).fragment
    other = serve({"taia": ["c"], "base": ["d"]}, {"taia": "all - mlp"})
    guest = visit(f"{other.url}#{fragment}")
    finish(guest, "From a link.")
    assert columns(guest) == {"base": "a", "taia": "b"}
    assert guest.locator(".selection").all_inner_texts() == ["", "attention[1:]"]
    ask(guest)
    finish(guest)
    assert columns(guest) == {"taia": "c", "base": "d"}
    assert guest.locator(".selection").all_inner_texts() == ["all - mlp", ""]


NAMES = ["__proto__", "constructor", "toString", "", " ", "\u202eaiat", "\x1b[31m", "x" * 3000]


def linked(page, answers):
    """The address of a round with these answers."""
    round_ = {"created": "2026", "prompt": "?", "system": "", "temperature": 0, "max_tokens": 9}
    code = "async round => { const m = await import('/share.js'); return m.link(round); }"
    return page.evaluate(code, {**round_, "seed": None, "answers": answers})


def test_names_that_mean_something_to_javascript(serve, visit):
    modes = [name for name in NAMES if name.strip()]
    fake = serve({mode: [f"by {len(mode)}"] for mode in modes}, {"constructor": "__proto__"})
    page = visit(fake.url)
    ask(page)
    finish(page)
    texts = page.locator(".answer").all_text_contents()
    assert texts == [f"by {len(mode)}" for mode in modes]
    assert [column.text_content() for column in page.locator(".column h2").all()] == modes
    assert sorted(body["model"] for body in fake.asked) == sorted(modes)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.select_option("#reference", "__proto__")
    expect(page.locator(".likeness").nth(1)).to_contain_text("differs from __proto__")
    page.check("[name=blind]")
    ask(page)
    expect(page.locator("#ballot")).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator("#tally tbody tr")).to_have_count(len(modes))


def test_a_link_that_names_a_mode_twice_loses_no_answer(serve, visit):
    answer = {"selection": "", "tokens": 0, "seconds": 0}
    given = [
        {**answer, "mode": mode, "text": text, "finish": finish}
        for mode, text, finish in [
            ("base", "one", "stop"),
            ("base", "two", "constructor"),
            ("__proto__", "three", "__proto__"),
            ("base", "", "toString"),
        ]
    ]
    fake = serve({"base": ["x"], "taia": ["y"]})
    page = visit(fake.url)
    finish(page, "Write a prompt")
    guest = visit(linked(page, given))
    finish(guest, "From a link.")
    assert guest.locator(".answer").all_text_contents() == [each["text"] for each in given]
    # Why an answer ended is one of the page's own words or nothing.
    assert guest.locator(".figures").all_text_contents() == ["an empty answer", "", "", ""]
    ask(guest)
    finish(guest)
    assert columns(guest) == {"base": "x", "taia": "y"}
