// A worker that is cut off from its primary believes in nothing that it hears of late, whatever its listeners do.
import { test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"

watchLeaks()

for (const where of [ "worker", "thread" ])
    test(`a ${where} that hears of a grant when it has been cut off does not believe in it, and its signals know`,
        { skip: process.platform !== "linux" && "no memory is lent here" }, async (t) => {
            const folder = mkdtempSync(join(tmpdir(), "cut-off-"))
            t.after(() => rmSync(folder, { recursive: true }))
            const child = await startChild(t, new URL("./programs/cut-off.mjs", import.meta.url), [ folder, where ])
            await child.exit({ timeout: 60_000 })
            const lines = child.stdout.trim().split("\n")
            assert.ok(!lines.includes("believes"), child.stdout)
            assert.ok(lines.includes("signal true true ERR_LOCK_LOST"), child.stdout)
            for (const call of [ "acquire", "withLock", "lock" ])
                assert.ok(lines.some((line) => new RegExp(`^${call} ERR_(PRIMARY|CLOSED|LOCK_LOST)$`).test(line)), `${call}: ${child.stdout}`)
            assert.equal(lines.filter((line) => line === "closed").length, 2, child.stdout)
            for (const line of [ "lost ERR_LOCK_LOST", "release ERR_LOCK_LOST", "over" ])
                assert.ok(lines.includes(line), child.stdout)
        })
