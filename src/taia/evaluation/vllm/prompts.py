"""Two prompts that an engine is checked on, long enough for what a mode changes to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taia.evaluation.harness.encoder import Encoder

#: Prose, figures, code and Chinese, as updates change some kinds of text more than others.
TEXT: Final = """Water boils at a lower temperature in the mountains, because the air above \
presses less on it. At sea level it boils at 100 degrees Celsius; on a peak of 3000 metres, at \
about 90. Cooks who live there know that rice and beans need more time, and that a pot with a \
tight lid helps.

Opening hours of the library:
- Monday to Friday: 9:00 to 18:30
- Saturday: 10:00 to 14:00
- Sunday and public holidays: closed
Books may be kept for four weeks. Each further day costs 0.20 euros, so three days cost 0.60.

def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2

A train leaves the harbour at a quarter past seven and reaches the capital two hours and forty \
minutes later, at five to ten. If it travels 240 kilometres, its average speed is 90 kilometres an \
hour. The return is slower: the line climbs for most of the way, and the train waits in two \
stations until another has passed.

春天来了，公园里的花都开了。孩子们在草地上放风筝，老人们坐在长椅上聊天。医生说，每天散步半小时，对身体有好处。

The patient, a woman of 54, had been tired for a month and was often thirsty. Her blood pressure \
was 130/85. A test in the morning, before breakfast, showed 9.1 mmol/l of glucose in her blood; a \
second one, a week later, 8.8. She was told what that means, what she may eat, and when to come \
again."""

TURNS: Final = (
    {
        "role": "user",
        "content": "A farmer has 17 sheep, and all but 9 run away. How many are left? Explain "
        "your answer briefly, and then say why people often get it wrong.",
    },
    {
        "role": "assistant",
        "content": 'There are 9 sheep left, because "all but 9" means that nine of them stayed. '
        "People read quickly, see two numbers, and subtract one from the other.",
    },
    {
        "role": "user",
        "content": "Thank you. Now write a short letter to a neighbour whose dog barks at night. "
        "Be friendly, and propose two things that might help.",
    },
    {
        "role": "assistant",
        "content": "Dear neighbour,\n\nI hope you are well. I am writing about something small: "
        "your dog has been barking at night for about two weeks, mostly between one and three "
        "o'clock, and I have not slept much. I know that you cannot hear it when you are at work, "
        "and that no dog barks without a reason.\n\nPerhaps one of two things would help. He may "
        "be less restless after a longer walk in the evening; I would be glad to take him along "
        "when I go out at nine. Or he may be afraid of cats in the yard, and sleep better in a "
        "room at the front of it.\n\nPlease tell me if there is anything else that I can do. And "
        "thank you for the apples: the cake was very good.\n\nKind regards,\nAnna",
    },
    {
        "role": "user",
        "content": "Which of these is not a metal: (A) mercury, (B) sulfur, (C) tin, (D) sodium?",
    },
    {
        "role": "assistant",
        "content": "(B) Sulfur. It is a yellow solid that conducts neither heat nor electricity "
        "well. Mercury is a metal too, though it is liquid at room temperature; tin and sodium are "
        "soft metals, and sodium reacts with water.",
    },
)


def prompts(encoder: Encoder) -> list[tuple[int, ...]]:
    """Two prompts in tokens: plain text, and a conversation in the chat format if there is one."""
    if encoder.tokenizer.chat_template is None:
        spoken = "\n".join(turn["content"] for turn in TURNS)
    else:
        spoken = encoder.apply_chat_template(list(TURNS), add_generation_prompt=False)
    return [encoder.prompt(text, 1) for text in (TEXT, spoken)]
