// Names and ids, one to one, without any coordinator.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import { ids as special } from "./special.mjs"

const require = createRequire(import.meta.url)
const { idOf, nameOf } = require("../../lib/manager/names.js")
const { LockManager, Mutex } = require("../../index.js")

test("each name has the id that is documented, and no two have the same", () => {
    for (const [ name, id ] of special)
        assert.equal(idOf(name), id, JSON.stringify(name))
    assert.equal(new Set(special.map(([ , id ]) => id)).size, special.length)
})

test("an id gives its name back, for whatever mix of characters", () => {
    const random = ((seed) => () => (seed = seed * 48271 % 0x7fffffff) / 0x7fffffff)(42)
    for (let round = 0; round < 20_000; round++) {
        const codes = Array.from({ length: 1 + Math.floor(random() * 4) }, () =>
            Math.floor(random() * 2) === 0 ? 0xd800 + Math.floor(random() * 0x800) : Math.floor(random() * 0x10000))
        const name = String.fromCharCode(...codes, ...random() < 0.5 ? [ 37, 52, 49 ] : [])
        assert.equal(nameOf(idOf(name)), name, JSON.stringify(codes))
    }
})

test("an id that is no name's stands for itself", () => {
    for (const id of [ "a%2", "%61", "a%ff", "a{b", "%ED%A0" ])
        assert.equal(nameOf(id), id)
})

test("an id that a URL can have is what the URL's path has", () => {
    for (const [ name, id ] of special.filter(([ name ]) => name !== "." && name !== ".." && name !== ""))
        assert.equal(new Mutex(`rpm+redis://h/${id}`).id, id, JSON.stringify(name))
})

test("the constructor takes URLs without an id, and says of others what is wrong", () => {
    const good = [ "spm:", "mpm:", "lpm:", "lpm:?dir=/tmp", "rpm+redis://h/", "rpm+redis://h", "rpm+redis://x:p@h:1/?ttl=5", "rpm+pgsql://u:p@h/", "rpm+pgsql://h/db/?ttl=5",
        "rpm+consul://h/", "rpm+etcd://a,b:1/", new URL("rpm+redis://h/"), new URL("spm:") ]
    for (const url of good)
        new LockManager(url)
    const bad = [ "lpm:foo", "lpm:?dir=tmp", "spm:foo", "rpm+redis://h/foo", "rpm+redis://h/foo/", "rpm+pgsql://h/db", "rpm+pgsql://h/db/foo", "rpm+pgsql://h/?pair=1,2",
        "foo:", "redis://h/", "", undefined, null, 5, "rpm+redis://", "rpm+redis:///", "rpm+redis://h/?ttl=never", "spm:?" + "a".repeat(5000) ]
    for (const url of bad)
        assert.throws(() => new LockManager(url), { code: "ERR_INVALID_URL" }, String(url))
    assert.throws(() => new LockManager("spm:", { lable: "x" }), { code: "ERR_INVALID_ARG_VALUE" })
    assert.throws(() => new LockManager("spm:", { credentials: () => {} }), { code: "ERR_INVALID_ARG_TYPE" })
})

test("no message shows a secret", () => {
    for (const url of [ "rpm+redis://x:hunter2@h/foo", "rpm+redis://x:hunter2@h/?ttl=never", "redis://x:hunter2@h/" ])
        assert.throws(() => new LockManager(url), ({ message, cause }) => !`${message} ${cause}`.includes("hunter2"))
})

test("PostgreSQL: the keys by which several names are ordered are those of its locks", () => {
    const { inOrder, pgsqlKey } = require("../../lib/manager/order.js")
    const { Place } = require("../../lib/manager/place.js")
    for (const [ id, key ] of [ [ "foo", 1467327550 ], [ "test", 2619831090 ], [ "leader-election", 3597615033 ], [ "my_lock", 2692244975 ] ])
        assert.equal(pgsqlKey(id), key)
    assert.deepEqual(inOrder([ "test", "foo", "test" ], new Place("rpm+pgsql://h/")), [ [ "foo" ], [ "test" ] ])
    assert.deepEqual(inOrder([ "b", "a b", "a-b" ], new Place("spm:")), [ [ "a b" ], [ "a-b" ], [ "b" ] ])
    const keys = new Map()
    let same
    for (let number = 0; same === undefined; number++) {
        const key = pgsqlKey(`n${number}`)
        same = keys.has(key) ? [ keys.get(key), `n${number}` ] : undefined
        keys.set(key, `n${number}`)
    }
    assert.deepEqual(inOrder(same, new Place("rpm+pgsql://h/")), [ same ])
})
