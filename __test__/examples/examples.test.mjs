// Every example is a program that works and prints what it says, on a private server where it needs one.
import assert from "node:assert/strict"
import { after, test } from "node:test"
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import typescript from "typescript"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { servers } from "../support/servers.mjs"
import { runs } from "./prints.mjs"

watchLeaks()

const root = fileURLToPath(new URL("../../", import.meta.url))
const folder = join(root, "examples")
const read = (file) => readFileSync(join(folder, file), "utf8")

/** Which servers an example is run on; it takes the URL as its argument. The others need none. */
const WITH_SERVERS = {
    "rpm.mjs": [ "redis", "pgsql", "consul", "etcd" ],
    "query.mjs": [ "spm", "redis", "pgsql", "consul", "etcd" ],
    "max-hold.mjs": [ "redis", "pgsql", "consul", "etcd" ],
    "fencing.mjs": [ "redis" ],
    "loss.mjs": [ "redis" ]
}
/** These add parameters to the URL. For the others there is no machine that is too slow. */
const SETTING_THEIR_OWN = [ "max-hold.mjs", "fencing.mjs", "loss.mjs" ]
const PATIENT = { ttl: 30, connect_timeout: 30 }
/** In a syntax that the oldest supported Node.js does not know. */
const COMPILED = [ "await-using.mjs" ]
/** Tested elsewhere. */
const OTHERS = [ "cron", "migration", "leader", "advisory" ]

const running = Object.fromEntries(await Promise.all(Object.keys(servers).map(async (name) => [ name, await servers[name](after) ])))

const examples = readdirSync(folder).filter((file) => file.endsWith(".mjs"))
const tested = examples.filter((file) => !OTHERS.some((other) => file.startsWith(other)))

for (const file of tested.filter((name) => !COMPILED.includes(name)))
    for (const where of WITH_SERVERS[file] ?? [ undefined ])
        test(`${file}${where === undefined ? "" : ` on ${where}`} prints what it says`, async (t) => {
            const id = file.replace(".mjs", "")
            const args = where === undefined ? [] : [ where === "spm" ? `spm:${id}` : running[where].url(id, SETTING_THEIR_OWN.includes(file) ? {} : PATIENT) ]
            await runs(t, join(folder, file), read(file), args)
        })

for (const file of COMPILED)
    test(`${file} prints what it says, compiled for Node.js 18`, async (t) => {
        const place = mkdtempSync(join(tmpdir(), "ipc-mutex-example-"))
        t.after(() => rmSync(place, { recursive: true, force: true }))
        mkdirSync(join(place, "node_modules"))
        symlinkSync(root, join(place, "node_modules", "ipc-mutex"), "junction")
        const { ES2022, ESNext } = typescript.ScriptTarget
        const options = { target: ES2022, module: ESNext, strict: true }
        const { outputText } = typescript.transpileModule(read(file), { compilerOptions: options, fileName: file })
        const compiled = join(place, "program.mjs")
        writeFileSync(compiled, outputText)
        await runs(t, compiled, read(file))
    })

for (const file of Object.keys(WITH_SERVERS))
    test(`${file} fails, and says why, where no server listens`, async (t) => {
        const child = await startChild(t, join(folder, file), [ "rpm+redis://127.0.0.1:1/nobody" ])
        const { code } = await child.exit({ timeout: 120_000 })
        assert.equal(code, 1)
        assert.match(child.stderr, /Redis at 127\.0\.0\.1:1 cannot be reached/)
    })

test("no example is left out", () => {
    assert.deepEqual(Object.keys(WITH_SERVERS).filter((file) => !examples.includes(file)), [])
    assert.ok(tested.length >= 16)
})
