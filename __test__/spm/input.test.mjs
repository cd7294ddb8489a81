// Bad input: a synchronous error that says what is wrong, from the constructor; never a crash.
import { test } from "node:test"
import assert from "node:assert/strict"
import { inspect } from "node:util"
import { Mutex, MutexError } from "../conformance/world.mjs"

const fails = (url) => {
    try {
        new Mutex(url)
    }
    catch (error) {
        assert.ok(error instanceof MutexError, `${inspect(url)}: ${error}`)
        assert.equal(error.code, "ERR_INVALID_URL")
        assert.ok(error.message.length < 400, error.message)
        return error.message
    }
    assert.fail(`${inspect(url)} was accepted`)
}

test("the messages of 1.x are word for word the same", () => {
    assert.equal(fails("spm:"), "no mutex id given")
    assert.equal(fails("mpm:"), "no mutex id given")
    for (const id of [ "1x", "a_b", "ä", "a b", "a/b" ])
        assert.equal(fails(`spm:${id}`), "invalid mutex id given")
    assert.equal(fails("rpm+redis://localhost"), "missing pathname in URL")
    assert.equal(fails("rpm+redis://localhost/"), "invalid pathname in URL")
    assert.equal(fails("foo:bar"), "unknown implementation strategy \"foo:bar\"")
    assert.equal(fails("rpm+mysql://joe:secret@host/id"), "unknown implementation strategy \"rpm+mysql://joe:***@host/id\"")
})

test("whatever is not a URL is refused with a message", () => {
    for (const url of [ "", " ", "spm", ":", "://", undefined, null, 5, true, {}, [], Symbol("x"), () => {}, "x".repeat(10_000), "spm:\0",
        `spm:${"a".repeat(10_000)}\n`, "rpm+redis://", "rpm+redis:///x", "rpm+redis://h:99999/x", "rpm+redis://h/x?ttl=soon", "rpm+pgsql://h/x?tls=perhaps",
        "rpm+redis://ü@h/ü", "rpm+etcd://h1,,h2/x", "rpm+consul://h/x?ttl=1" ])
        fails(url)
})

test("a password is in no message, however broken the URL is", () => {
    for (const url of [ "rpm+redis://x:hunter2@:bad:/id", "rpm+redis://x:hunter2@host:port/id", "rpm+nope://x:hunter2@h/id", "xyz://x:hunter2@h/id",
        "rpm+pgsql://x:hunter2@h", "rpm+redis://x:hunter2@h/id?ttl=-1", "redis://x:hunter2@h" ])
        assert.doesNotMatch(fails(url), /hunter2/, url)
    const mutex = new Mutex("rpm+redis://x:hunter2@localhost/id")
    for (const text of [ inspect(mutex, { depth: 9, showHidden: true }), JSON.stringify(mutex), String(mutex) ])
        assert.doesNotMatch(text, /hunter2/)
})

test("options of the wrong kind are refused", () => {
    for (const options of [ null, 5, "x", { label: 5 }, { detectDeadlocks: "yes" } ])
        assert.throws(() => new Mutex("spm:x", options), { code: "ERR_INVALID_ARG_TYPE" })
})

test("a URL object is as good as text", () => {
    assert.equal(new Mutex(new URL("rpm+redis://localhost/my_lock")).id, "my_lock")
    assert.equal(new Mutex(new URL("spm:foo")).id, "foo")
})
