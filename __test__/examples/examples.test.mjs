// Every example is a program that works and prints what it says, on a private server where it needs one.
import assert from "node:assert/strict"
import { after, test } from "node:test"
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import typescript from "typescript"
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
/** Tested elsewhere. */
const OTHERS = [ "cron", "migration", "leader", "advisory" ]

const running = Object.fromEntries(await Promise.all(Object.keys(servers).map(async (name) => [ name, await servers[name](after) ])))

const examples = readdirSync(folder).filter((file) => /\.m[jt]s$/.test(file))
const tested = examples.filter((file) => !OTHERS.some((other) => file.startsWith(other)))

for (const file of tested.filter((name) => name.endsWith(".mjs")))
    for (const where of WITH_SERVERS[file] ?? [ undefined ])
        test(`${file}${where === undefined ? "" : ` on ${where}`} prints what it says`, async (t) => {
            const id = file.replace(".mjs", "")
            const args = where === undefined ? [] : [ where === "spm" ? `spm:${id}` : running[where].url(id, SETTING_THEIR_OWN.includes(file) ? {} : PATIENT) ]
            await runs(t, join(folder, file), read(file), args)
        })

for (const file of tested.filter((name) => name.endsWith(".mts")))
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

test("no example is left out", () => {
    assert.deepEqual(Object.keys(WITH_SERVERS).filter((file) => !examples.includes(file)), [])
    assert.ok(tested.length >= 16)
})
