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
        assert.match(fails(`spm:${id}`), /^invalid mutex id given: an id starts with a letter/)
    assert.equal(fails("rpm+redis://localhost"), "missing pathname in URL")
    assert.equal(fails("rpm+redis://localhost/"), "invalid pathname in URL")
    assert.equal(fails("foo:bar"), "unknown implementation strategy \"foo:bar\"")
    assert.equal(fails("rpm+mysql://joe:secret@host/id"), "unknown implementation strategy \"rpm+mysql://joe:***@host/id\"")
})

test("whatever is not a URL is refused with a message", () => {
    for (const url of [ "", " ", "spm", ":", "://", undefined, null, 5, true, {}, [], Symbol("x"), () => {}, "x".repeat(10_000), "spm:\0",
        `spm:${"a".repeat(10_000)}\n`, "rpm+redis://", "rpm+redis:///x", "rpm+redis://h:99999/x", "rpm+redis://h/x?ttl=soon", "rpm+pgsql://h/x?tls=perhaps",
        "rpm+etcd://h1,,h2/x", "rpm+consul://h/x?ttl=1" ])
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
    for (const options of [ null, 5, "x", { label: 5 }, { detectDeadlocks: "yes" }, { credentials: "x" }, { credentials () {} } ])
        assert.throws(() => new Mutex("spm:x", options), { code: "ERR_INVALID_ARG_TYPE" })
})

test("options that nobody knows are refused, as are those of a wait in a try", async (t) => {
    assert.throws(() => new Mutex("spm:x", { labl: "a" }),
        { code: "ERR_INVALID_ARG_VALUE", message: "unknown option \"labl\", expected label, detectDeadlocks, credentials" })
    const mutex = new Mutex("spm:x", { label: undefined })
    await mutex.open()
    t.after(() => mutex.close())
    for (const method of [ "acquire", "lock" ])
        await assert.rejects(mutex[method]({ timeot: 5 }), { code: "ERR_INVALID_ARG_VALUE", message: /unknown option "timeot", expected shared, timeout, signal/ })
    await assert.rejects(mutex.withLock({ timeot: 5 }, () => assert.fail("not protected")), { code: "ERR_INVALID_ARG_VALUE" })
    for (const method of [ "tryAcquire", "tryLock" ])
        await assert.rejects(mutex[method]({ timeout: 5 }), { code: "ERR_INVALID_ARG_VALUE", message: /unknown option "timeout", expected shared/ })
    assert.equal(await mutex.tryAcquire({ shared: false, signal: undefined }), true)
})

test("an id is what the URL parser makes of it, for text and URL objects alike", () => {
    for (let code = 0x20; code < 0x250; code++) {
        const character = String.fromCharCode(code)
        if ("/?#".includes(character))
            continue
        const text = `rpm+redis://h/a${character}b`
        const expected = new URL(text).pathname.slice(1)
        assert.deepEqual([ new Mutex(text).id, new Mutex(new URL(text)).id ], [ expected, expected ], JSON.stringify(character))
    }
    for (const [ path, id ] of [ [ "a{b}", "a%7Bb%7D" ], [ "ä", "%C3%A4" ], [ "x/../y", "y" ],
        [ "a\tb", "ab" ], [ " a ?ttl=5", "%20a%20" ], [ "\ud800", "%EF%BF%BD" ] ])
        assert.equal(new Mutex(`rpm+redis://h/${path}`).id, id)
    assert.equal(new Mutex("rpm+etcd://h1:1,[::1]:2/a{").id, "a%7B")
    assert.equal(new Mutex("rpm+pgsql://%2Frun%2Fpg/d{/a{").id, "a%7B")
})

test("what follows the id in a path is ignored, with a warning that names it", async () => {
    const warned = []
    const listener = (warning) => warned.push(warning)
    process.on("warning", listener)
    new Mutex("rpm+redis://h/orders/1?ttl=5")
    new Mutex("rpm+redis://h/orders/")
    await new Promise(setImmediate)
    process.off("warning", listener)
    assert.deepEqual(warned.map(({ code, message }) => [ code, message ]), [ [ "IPC_MUTEX_IGNORED_PATH",
        "\"/1\" at the end of the path in a mutex URL is ignored: the lock is \"orders\"; in a name, write \"%2F\" for a slash" ] ])
})

test("a URL object is as good as text", () => {
    assert.equal(new Mutex(new URL("rpm+redis://localhost/my_lock")).id, "my_lock")
    assert.equal(new Mutex(new URL("spm:foo")).id, "foo")
})
