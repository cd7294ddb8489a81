// Walks of several threads and processes over the whole API of the same locks. IPC_MUTEX_TEST_STEPS=1000000 walks further (steps of all together),
// IPC_MUTEX_TEST_SEED takes the same decisions again, though not in the same order.
import { test } from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { fileURLToPath } from "node:url"

function folder (t) {
    const path = mkdtempSync(join(tmpdir(), "ipc-mutex-walk-"))
    t.after(() => rmSync(path, { recursive: true }))
    return path
}

const program = fileURLToPath(new URL("./live-walk.mjs", import.meta.url))
const steps = Number(process.env.IPC_MUTEX_TEST_STEPS ?? 30_000)
const seed = Number(process.env.IPC_MUTEX_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))

for (const [ model, walkers ] of [ [ "spm", 3 ], [ "mpm", 9 ], [ "lpm", 3 ] ])
    test(`${model}: ${steps} random steps of ${walkers} threads let nobody in beside another, and every call settles`, {
        skip: model === "lpm" && process.platform !== "linux" && "lpm: exists on Linux only"
    }, async (t) => {
        const query = model === "lpm" ? [ `?dir=${folder(t)}` ] : []
        const each = String(Math.ceil(steps / walkers))
        const { stdout } = await promisify(execFile)(process.execPath, [ program, model, each, String(seed), ...query ])
            .catch((error) => { throw new Error(`with IPC_MUTEX_TEST_SEED=${seed}: ${error.stderr}`) })
        const { lost, ...counts } = JSON.parse(stdout)
        assert.equal(counts.walkers, walkers)
        assert.equal(lost, 0)
        for (const [ name, count ] of Object.entries(counts))
            assert.ok(count > 0, name)
    })
