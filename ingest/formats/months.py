"""Months by the names that servers write which run under another language, from the abbreviations that CLDR gives."""

from __future__ import annotations

from contract.event_time import BadTime

_ENGLISH = "jan feb mar apr may jun jul aug sep oct nov dec"
_OTHERS = (
    "janv févr mars avr mai juin juil août sept oct nov déc",
    "jan feb märz apr mai juni juli aug sept okt nov dez",
    "jän feb mär apr mai jun jul aug sep okt nov dez",
    "ene feb mar abr may jun jul ago sept oct nov dic",
    "gen feb mar apr mag giu lug ago set ott nov dic",
    "jan fev mar abr mai jun jul ago set out nov dez",
    "gen febr març abr maig juny juliol ag set oct nov des",
    "jan feb mrt apr mei jun jul aug sep okt nov dec",
    "jan feb mars apr maj juni juli aug sep okt nov dec",
    "jan feb mars apr mai juni juli aug sep okt nov des",
    "tammik helmik maalisk huhtik toukok kesäk heinäk elok syysk lokak marrask jouluk",
    "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "led úno bře dub kvě čvn čvc srp zář říj lis pro",
    "jan feb mar apr máj jún júl aug sep okt nov dec",
    "sij velj ožu tra svi lip srp kol ruj lis stu pro",
    "jan feb mar apr maj jun jul avg sep okt nov dec",
    "jan febr márc ápr máj jún júl aug szept okt nov dec",
    "ian feb mar apr mai iun iul aug sept oct nov dec",
    "oca şub mar nis may haz tem ağu eyl eki kas ara",
    "янв февр мар апр мая июн июл авг сент окт нояб дек",
    "янв февр март апр май июнь июль авг сент окт нояб дек",
    "січ лют бер квіт трав черв лип серп вер жовт лист груд",
    "ян фев мар апр май юни юли авг сеп окт ное дек",
    "ιαν φεβ μαρ απρ μαΐ ιουν ιουλ αυγ σεπ οκτ νοε δεκ",
)
_LONGEST_NAMED = 20


def _numbers() -> dict[str, set[int]]:
    numbers: dict[str, set[int]] = {}
    for names in (*_OTHERS, _ENGLISH):
        for number, name in enumerate(names.split(), 1):
            numbers.setdefault(name, set()).add(number)
    return numbers | {name: {number} for number, name in enumerate(_ENGLISH.split(), 1)}


_NUMBERS = _numbers()


def month_number(text: str) -> int:
    """1 to 12; BadTime of a name that is unknown, or that two languages give to two months."""
    name = text.lower().removesuffix(".")
    # Chinese, Japanese and Korean number them.
    if name[-1:] in ("月", "월") and name[:-1].isdecimal() and 1 <= int(name[:-1]) <= 12:
        return int(name[:-1])
    numbers = _NUMBERS.get(name, set())
    if len(numbers) != 1:
        what = "is of two months in two languages" if numbers else "is not known"
        raise BadTime(f"has a month that {what}: {text[:_LONGEST_NAMED]}")
    return next(iter(numbers))
