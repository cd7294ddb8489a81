// Signals while a server takes its time.
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { etcd, noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { PATIENT, start } from "./programs.mjs"

watchLeaks()

for (const [ name, server ] of Object.entries({ redis, etcd }))
    describe(`a signal, with ${name}`, () => {
        test("that comes when the lock is granted but the answer is still on its way leaves no lock behind", async (t) => {
            const on = await server(t)
            const proxy = await startProxy(on, t)
            proxy.delay(300)
            for (const options of [ [ "-n" ], [ "-w", "60" ], [] ]) {
                const id = `granted${options.join("")}`
                const job = start(t, "ipc-mutex", [ "exec", ...options, on.url(id, PATIENT, proxy.port), "--", "sleep", "1000" ])
                await waitFor(async () => (await on.admin.keys()).some(({ key }) => key.includes(id)), { timeout: 60_000, what: "the grant" })
                job.signal("SIGTERM")
                assert.equal((await job.end()).signal, "SIGTERM")
                const mutex = new Mutex(on.url(id, PATIENT))
                await mutex.open()
                assert.equal(await mutex.tryAcquire(), true, options.join(" "))
                await mutex.close()
            }
            await noLeftovers(on)
        })

        test("ends the release at a server that does not answer", async (t) => {
            const on = await server(t)
            const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-slow-"))
            t.after(() => rmSync(folder, { recursive: true, force: true }))
            const code = "echo ready; until [ -e end ]; do sleep 0.05; done; exit 4"
            const job = start(t, "ipc-mutex", [ "exec", "-v", on.url("release", PATIENT), "--", "sh", "-c", code ], { cwd: folder })
            await job.says("ready")
            await on.pause()
            t.after(() => on.resume())
            writeFileSync(join(folder, "end"), "")
            await job.says("the command has ended", "stderr")
            job.signal("SIGTERM")
            assert.equal((await job.end()).signal, "SIGTERM")
        })
    })
