import functools

import pytest
from umbel import ConfigurationError
from umbel._declaring.functions import check_async_generator, check_coroutine_function, check_function


async def coroutine(client, x):
    return True


async def generator(client, x):
    yield "x"


class Model:
    def decide(self, client, x):
        return True

    async def run(self, client, x):
        return True

    async def answer(self, client, x):
        yield "x"


class Decide:
    def __call__(self, client, x):
        return True


class Run:
    async def __call__(self, client, x):
        return True


class Answer:
    async def __call__(self, client, x):
        yield "x"


def passed_on(function):
    @functools.wraps(function)
    def inner(*arguments, **keywords):
        return function(*arguments, **keywords)

    return inner


def with_database(function):
    @functools.wraps(function)
    async def inner(client, x):
        return await function(client, x, db=None)

    return inner


@with_database
async def injected(client, x, db):
    return True


@pytest.mark.parametrize(
    "function",
    [
        lambda client, x: True,
        lambda c, **rest: True,
        functools.partial(lambda db, client, x: True, None),
        min,  # it has no signature
        coroutine,
        Model().decide,
        Decide(),
        Run(),
        passed_on(coroutine),
        injected,
    ],
)
def test_a_function_that_fits(function):
    check_function(function, "it", ("client",), ["x"])


@pytest.mark.parametrize(
    "function",
    [coroutine, functools.partial(coroutine), Model().run, Run(), passed_on(coroutine), injected],
)
def test_a_coroutine_function(function):
    check_coroutine_function(function, "it", ("client",), ["x"])
    with pytest.raises(ConfigurationError, match="must be an async generator"):
        check_async_generator(function, "it", ("client", "x"))


@pytest.mark.parametrize(
    "function",
    [
        generator,
        functools.partial(generator),
        Model().answer,
        Answer(),
        passed_on(generator),
        functools.partial(passed_on(generator)),
    ],
)
def test_an_async_generator(function):
    check_async_generator(function, "it", ("client", "x"))
    with pytest.raises(ConfigurationError, match="must be async def without yield"):
        check_coroutine_function(function, "it", ("client",), ["x"])


@pytest.mark.parametrize(
    "function", [lambda: True, lambda client: True, lambda client, z: True, lambda client, x, z: True]
)
def test_a_function_that_does_not_fit_is_told_its_call(function):
    with pytest.raises(ConfigurationError, match=r"can't be it: it is called as .*\(client, x\)"):
        check_function(function, "it", ("client",), ["x"])


@pytest.mark.parametrize("function", [generator, functools.partial(generator), Model().answer, Answer()])
def test_a_generator_is_no_function_that_answers(function):
    with pytest.raises(ConfigurationError, match="use return instead of yield"):
        check_function(function, "it", ("client",), ["x"])


@pytest.mark.parametrize("check", [check_function, check_coroutine_function, check_async_generator])
def test_an_error_says_what_is_not_a_function(check):
    with pytest.raises(ConfigurationError, match="'nonsense' is not a function and can't be it"):
        check("nonsense", "it", ("client",))
