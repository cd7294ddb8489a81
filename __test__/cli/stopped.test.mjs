// Commands that SIGSTOP has stopped.
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { watchLeaks } from "../support/leaks.mjs"
import { alive, signal, state } from "../support/processes.mjs"
import { waitFor } from "../support/waiting.mjs"
import { opened, place, shell, skip } from "./machine.mjs"
import { start } from "./programs.mjs"

watchLeaks()
const patient = (what) => ({ timeout: 60_000, what })

describe("a command that stands still", { skip }, () => {
    for (const name of [ "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM" ])
        test(`is ended by ${name}`, async (t) => {
            const { url } = place(t)
            const mutex = await opened(t, url)
            const script = "console.log('pid ' + process.pid); process.kill(process.pid, 'SIGSTOP'); setTimeout(() => {}, 1e6)"
            const job = start(t, "ipc-mutex", [ "exec", url, "--", process.execPath, "-e", script ])
            await job.says(/pid \d+\n/)
            const command = Number(job.stdout.match(/pid (\d+)/)[1])
            await waitFor(() => state(command) === "T", patient("the command to stop"))
            job.signal(name)
            await job.end()
            assert.equal(alive(command), false)
            assert.equal(await mutex.tryAcquire(), true)
        })

    test("leaves the keyboard to this program, and gets it again", async (t) => {
        const { url } = place(t)
        const code = "echo ready $$; kill -STOP $$; read line; echo \"got <$line>\"; kill -STOP $$; sleep 1000"
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell(code) ], { terminal: true })
        await job.says(/ready \d+/)
        const command = Number(job.stdout.match(/ready (\d+)/)[1])
        const stopped = () => waitFor(() => state(command) === "T", patient("the command to stop"))
        await stopped()
        signal(command, "SIGCONT")
        job.input.write("words\n")
        await job.says("got <words>")
        await stopped()
        await waitFor(() => foreground(command) !== command, patient("the keyboard to be taken back"))
        job.input.write("\x03")
        assert.equal((await job.end()).code, 130)
    })
})

/** The process group that the terminal of a process belongs to. */
const foreground = (pid) => Number(readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /, "").split(" ")[5])
