// The three examples of locks in operation, each by several processes at once.
import { after, test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, postgres, redis } from "../support/servers.mjs"
import { startChild } from "../support/children.mjs"
import { waitFor } from "../support/waiting.mjs"
import { announced } from "../examples/prints.mjs"
import { PATIENT } from "./programs.mjs"

watchLeaks()
const running = { redis: await redis(after, { password: true }), pgsql: await postgres(after, { password: true }) }
const patient = { timeout: 60_000 }
const example = (name) => new URL(`../../examples/${name}.mjs`, import.meta.url)

for (const [ name, server ] of Object.entries(running)) {
    test(`a cron job on three machines runs once (${name})`, async (t) => {
        // kept until the others have come, however slow this machine is
        const machines = await Promise.all([ 1, 2, 3 ].map(() => startChild(t, example("cron"), [ server.url("cron", { ...PATIENT, ttl: 10 }), "600" ])))
        const says = (pattern) => machines.filter(({ stdout }) => pattern.test(stdout))
        await waitFor(() => says(/another machine does it\n/).length === 2 && says(/writes the report\n/).length === 1,
            { ...patient, what: "one machine to work and two to go home" })
        const [ worker ] = says(/writes the report\n/)
        for (const machine of machines.filter((each) => each !== worker))
            await machine.success(patient)
        await worker.kill("SIGTERM")
    })

    test(`a migration at deployment is done once, and every instance starts after it (${name})`, async (t) => {
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-migration-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const journal = join(folder, "journal")
        const url = server.url("migration", PATIENT)
        const instances = await Promise.all([ 1, 2, 3 ].map(() => startChild(t, example("migration"), [ url, journal ], { env: { IPC_MUTEX_URL: url } })))
        for (const instance of instances)
            await instance.success(patient)
        assert.equal(readFileSync(journal, "utf8").trimEnd().split("\n").length, 3)
        const outputs = instances.map(({ stdout }) => stdout).sort((a, b) => b.length - a.length)
        assert.deepEqual(outputs, [ `${announced(readFileSync(example("migration"), "utf8")).join("\n")}\n`, "started\n", "started\n" ])
    })

    test(`one of ten web processes leads, and when it dies another does (${name})`, async (t) => {
        // The next one leads when the lease of the dead one is over; a machine that stands still for a while must not depose the living.
        const url = server.url("leader", { ...PATIENT, ttl: 10 })
        const all = await Promise.all(Array.from({ length: 10 }, () => startChild(t, example("leader"), [ url, "0.05" ])))
        const leaders = () => all.filter(({ stdout }) => stdout.includes("leads\n"))
        await waitFor(() => all.every(({ stdout }) => stdout.includes("serves\n")) && leaders().length === 1, { ...patient, what: "a leader" })
        const [ first ] = leaders()
        await waitFor(() => first.stdout.includes("sends the statistics"), { ...patient, what: "statistics" })
        await first.kill("SIGKILL")
        await waitFor(() => leaders().length === 2, { ...patient, what: "the next leader" })
        const second = leaders().find((each) => each !== first)
        await waitFor(() => second.stdout.includes("sends the statistics"), { ...patient, what: "statistics" })
        assert.deepEqual(await second.kill("SIGTERM", patient), { code: 0, signal: null })
        await waitFor(() => leaders().length === 3, { ...patient, what: "the third leader" })
        await Promise.all(all.filter(({ result }) => result === undefined).map((each) => each.kill("SIGTERM", patient)))
        assert.deepEqual(all.filter((each) => each !== first).map(({ stderr, result }) => [ stderr, result.code ]), Array(9).fill([ "", 0 ]))
    })
}

test("an example takes the URL from the environment", async (t) => {
    const child = await startChild(t, example("migration"), [], { env: { IPC_MUTEX_URL: running.redis.url("from-environment") } })
    await child.success(patient)
    assert.match(child.stdout, /started\n$/)
})

test("nothing is left at the servers", async () => {
    // What a killed process held on Redis is there until its lease of 10 s ends.
    for (const server of Object.values(running))
        await noLeftovers(server, { timeout: 60_000 })
})
