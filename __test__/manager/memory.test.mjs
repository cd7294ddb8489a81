// Names that are used once leave nothing behind.
import { after, test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { startChild } from "../support/children.mjs"

watchLeaks()
/** Bytes that may come and go: pages of the heap, compiled code. 100,000 names that stayed would be more than 50 MB. */
const NOISE = 12_000_000

const program = (url, names) => new URL(`data:text/javascript,${encodeURIComponent(`
    import { LockManager } from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)}
    const locks = new LockManager(${JSON.stringify(url)})
    let last = 0
    async function use (names) {
        for (let done = 0; done < names; done += 100)
            await Promise.all(Array.from({ length: 100 }, () => locks.withLock("order:" + ++last, () => {})))
        for (let times = 0; times < 3; times++) {
            gc()
            await new Promise(setImmediate)
        }
        const { heapUsed, external, rss } = process.memoryUsage()
        return { heap: heapUsed + external, rss }
    }
    const before = await use(${names} / 2)
    const after = await use(${names})
    await locks.close()
    process.send({ name: "used", heap: after.heap - before.heap, rss: after.rss - before.rss })
    process.disconnect()
`)}`)

const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
after(() => rmSync(folder, { recursive: true }))
const machine = process.platform === "linux" ? [ [ `lpm:?dir=${encodeURIComponent(folder)}`, 20_000 ] ] : []

for (const [ url, names ] of [ [ "spm:", 100_000 ], [ "mpm:", 20_000 ], ...machine ])
    test(`${url.slice(0, 4)} ${names} names that are used once leave memory flat`, async (t) => {
        const child = await startChild(t, program(url, names), [], { execArgv: [ "--expose-gc" ] })
        const { heap, rss } = await child.message("used", { timeout: 300_000 })
        assert.ok(heap < NOISE, `the heap has grown by ${heap} bytes`)
        assert.ok(rss < 4 * NOISE, `the process has grown by ${rss} bytes`)
        t.diagnostic(`heap ${heap}, process ${rss}`)
    })
