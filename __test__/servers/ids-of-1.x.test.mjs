// One name, one lock: processes of 1.1.2 and ours keep each other out, whatever the id is written with.
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { noLeftovers, servers } from "../support/servers.mjs"
import { Mutex } from "../conformance/world.mjs"

watchLeaks()

const PRINTABLE = Array.from({ length: 95 }, (_, number) => String.fromCharCode(32 + number))
/** These end the first segment of a URL's path. */
const names = PRINTABLE.filter((character) => !"/?#".includes(character)).map((character) => `a${character}b`)
const all = [ ...names, "ä", "a{b}c", "{a}", "Ω-1", "日本", "a😀b", "%C3%A4", "a%2Fb", "a%20b", "A", "lock" ]

for (const [ name, start ] of Object.entries(servers))
    test(`${name}: each printable character, and others beyond ASCII, in an id: the same lock in both directions`, async (t) => {
        const server = await start(t, name === "pgsql" ? { password: true } : {})
        const base = server.url("x")
        for (const written of all) {
            const text = base.replace(/\/x(?=\?|$)/, `/${written}`)
            // What 1.1.2 made of its URL.
            const id = new URL(text).pathname.split("/").find((segment) => segment !== "" && segment !== server.database)
            const [ mutex, same ] = [ new Mutex(text), new Mutex(new URL(text)) ]
            const old = legacy(server)
            await mutex.open()
            await same.open()
            await mutex.acquire()
            assert.equal(await old.tryAcquire(id), false, `1.1.2 is kept out of ${written}`)
            assert.equal(await same.tryAcquire(), false, `${written} is taken`)
            await mutex.release()
            assert.equal(await old.tryAcquire(id), true, `1.1.2 gets ${written}`)
            assert.equal(await same.tryAcquire(), false, `${written} is taken by 1.1.2`)
            await old.release(id)
            assert.equal(await same.tryAcquire(), true, `${written} is free again`)
            await same.close()
            await mutex.close()
            await old.close()
        }
        // A leader key that 1.1.2 has used stays, as it always did.
        await noLeftovers(server, { ignore: /leader$/ })
    })
