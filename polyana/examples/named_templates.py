"""Chat templates for bases that have none of their own."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NAMED", "NamedTemplate"]


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A template in Jinja, as transformers applies it, and the tokens that it needs beside `eos_token`."""

    text: str
    tokens: tuple[str, ...] = ()


_CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_ZEPHYR = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""

_ALPACA = """\
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '### Instruction:\\n' + message.content + '\\n\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '### Response:\\n' + message.content + eos_token + '\\n\\n' }}
    {%- else %}
        {{- message.content + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\\n' }}
{%- endif %}
"""

_RAW = """\
{%- for message in messages %}
    {{- message.content }}
    {%- if message.role == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
"""

NAMED = {
    # OpenAI's chat markup, as Qwen and SmolLM2 use it
    "chatml": NamedTemplate(_CHATML, ("<|im_start|>", "<|im_end|>")),
    # Tunstall et al. 2023 (Zephyr): headers are plain text, so that no token is added
    "zephyr": NamedTemplate(_ZEPHYR),
    # Taori et al. 2023 (Stanford Alpaca), for several turns and without its opening sentence
    "alpaca": NamedTemplate(_ALPACA),
    # what is written stands there as it is: the prompt's own words are the format
    "raw": NamedTemplate(_RAW),
}
