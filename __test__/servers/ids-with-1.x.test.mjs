// Old processes (1.1.2) and new ones mean the same lock by the same id, whatever characters are in it.
import assert from "node:assert/strict"
import { test } from "node:test"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { servers } from "../support/servers.mjs"

watchLeaks()

/** A machine that is slow, or stands still for a moment, shall cost no hold and fail no call. */
const PATIENT = { ttl: 60, connect_timeout: 60 }

/** Every printable character but those that end the id in a URL. */
const PRINTABLE = Array.from({ length: 95 }, (_, at) => String.fromCharCode(32 + at)).filter((each) => !"/?#".includes(each))
const OTHERS = [ "ä", "e\u0301", "€", "漢字", "\u{1f512}", "%41", "%c3%a4", "%E2%82%AC" ]

/** What 1.1.2 took for the id of a URL: the first segment of the path, as `new URL()` gives it. */
const oldId = (url) => new URL(url).pathname.split("/").at(url.startsWith("rpm+pgsql:") ? -1 : 1)

for (const [ name, start ] of Object.entries(servers))
    test(`old and new processes exclude each other on ids of all characters, both ways: ${name}`, { timeout: 600_000 }, async (t) => {
        const server = await start(t)
        const old = legacy(server)
        await opened(t, server.url("anchor", PATIENT)) // keeps the connection
        const faults = []
        for (const id of [ ...PRINTABLE, ...OTHERS ].map((each) => `x${each}y`)) {
            const url = server.url(id, PATIENT)
            const same = oldId(url)
            for (const form of [ url, new URL(url) ]) {
                const mutex = await opened(t, form)
                const seen = [ await mutex.tryAcquire(), await old.tryAcquire(same) ]
                await mutex.release()
                seen.push(await old.tryAcquire(same), await mutex.tryAcquire())
                await old.release(same)
                await mutex.close()
                if (seen.join() !== "true,false,true,false")
                    faults.push(`${id} as ${same}: ${seen}`)
            }
        }
        await old.close()
        assert.deepEqual(faults, [])
    })
