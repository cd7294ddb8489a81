// Commands on a terminal: who has the keyboard, and who gets what it and other programs send.
import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { alive, signal, state } from "../support/processes.mjs"
import { waitFor } from "../support/waiting.mjs"
import { PATIENT, start } from "./programs.mjs"

const skip = process.platform === "linux" ? false : "needs script(1) as Linux has it"

watchLeaks()
const server = await redis(after, { password: true })
let count = 0
const freshUrl = (options = PATIENT) => server.url(`terminal-${++count}`, options)
const patient = (what) => ({ timeout: 60_000, what })
const shell = (code) => [ "--", "sh", "-c", code ]
/** Says "ready" with the process id of the wrapper and its own, counts signals and says how many when it gets SIGUSR1, and then ends. */
const COUNTER = [ "--", process.execPath, "-e", [
    "let count = 0",
    'for (const name of [ "SIGINT", "SIGQUIT", "SIGTERM" ]) process.on(name, () => { count++; console.log("got " + name) })',
    'process.on("SIGCONT", () => console.log("continued"))',
    'process.on("SIGUSR1", () => { console.log("signals: " + count); process.exit(4) })',
    'console.log("ready " + process.ppid + " " + process.pid)',
    "setInterval(() => {}, 1000)"
].join("; ") ]

/** A counter that runs, and the process ids of it and of its wrapper. */
async function counter (t, terminal) {
    const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...COUNTER ], { terminal })
    return { job, ...await ready(job) }
}

async function ready (job) {
    await job.says(/ready \d+ \d+/)
    const [ , wrapper, command ] = job.stdout.match(/ready (\d+) (\d+)/).map(Number)
    return { wrapper, command }
}

/** How many signals the counter got. It has heard of the ones before when it hears of this one. */
async function counted (job, command) {
    signal(command, "SIGUSR1")
    await job.says(/signals: \d+/)
    const { stdout } = await job.end()
    return Number(stdout.match(/signals: (\d+)/)[1])
}

describe("a command on a terminal", { skip }, () => {
    test("reads from the keyboard, and is in the foreground", async (t) => {
        const code = "ps -o pgid=,tpgid= -p $$; echo ready; read line; echo \"got <$line>\""
        const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...shell(code) ], { terminal: true })
        await job.says("ready")
        job.input.write("words\n")
        const { code: result, stdout } = await job.end()
        assert.equal(result, 0)
        assert.match(stdout, /got <words>/)
        const [ , group, foreground ] = stdout.match(/(\d+)\s+(\d+)/)
        assert.equal(group, foreground)
    })

    test("gets a signal that was sent to this program, once", async (t) => {
        for (const name of [ "SIGINT", "SIGQUIT", "SIGTERM" ]) {
            const { job, wrapper, command } = await counter(t, true)
            signal(wrapper, name)
            await job.says(`got ${name}`)
            assert.equal(await counted(job, command), 1)
        }
    })

    test("gets an interrupt from the keyboard once, also in a pipeline", async (t) => {
        const lines = { alone: true, "behind a pipe": (line) => `true | ${line}`, "before a pipe": (line) => `${line} | (trap '' INT; cat)` }
        for (const [ name, terminal ] of Object.entries(lines)) {
            const { job, command } = await counter(t, terminal)
            job.input.write("\x03")
            await job.says("got SIGINT")
            assert.equal(await counted(job, command), 1, name)
        }
    })

    test("leaves the terminal to the next one when it has ended", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", freshUrl(), "--", "true" ], { terminal: (line) => `${line}; echo next; read line; echo "got <$line>"` })
        await job.says("next")
        job.input.write("words\n")
        await job.says("got <words>")
        assert.equal((await job.end()).code, 0)
    })

    test("that is killed by the keyboard ends the script that it is in", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...shell("echo ready; exec sleep 1000") ],
            { terminal: (line) => `bash -c 'for i in 1 2; do eval "$0"; done; echo went on' ${JSON.stringify(line)}` })
        await job.says("ready")
        job.input.write("\x03")
        const { code, stdout } = await job.end()
        assert.equal(code, 130)
        assert.equal(stdout.match(/ready/g).length, 1)
        assert.doesNotMatch(stdout, /went on/)
    })

    test("gets the terminal in a pipeline when it asks for it", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...shell("echo ready; read line </dev/tty; echo \"got <$line>\"") ],
            { terminal: (line) => `${line} | cat` })
        await job.says("ready")
        job.input.write("words\n")
        await job.says("got <words>")
        assert.equal((await job.end()).code, 0)
    })
})

describe("job control", { skip }, () => {
    /** A counter that a shell with job control has started. */
    async function inShell (t, url = freshUrl()) {
        let line
        const job = start(t, "ipc-mutex", [ "exec", "--grace", "0", url, ...COUNTER ], {
            terminal: (text) => {
                line = text
                return "PS1='$ ' exec bash --norc --noprofile --noediting -i"
            }
        })
        await job.says("$ ")
        job.input.write(`${line}\n`)
        return { job, ...await ready(job) }
    }

    test("stops the command and this program by Ctrl-Z, and continues both by fg", async (t) => {
        const { job, wrapper, command } = await inShell(t)
        for (let round = 1; round <= 2; round++) {
            job.input.write("\x1a")
            await waitFor(() => state(wrapper) === "T" && state(command) === "T", patient("both to stop"))
            await waitFor(() => job.stdout.match(/Stopped/g)?.length === round, patient("the shell to say so"))
            job.input.write("fg\n")
            await waitFor(() => job.stdout.match(/continued\r/g)?.length === round, patient("the command to go on"))
        }
        job.input.write("\x03")
        await job.says("got SIGINT")
        signal(command, "SIGUSR1")
        await job.says("signals: 1")
        job.input.write("exit $?\n")
        assert.equal((await job.end()).code, 4)
    })

    test("continues both in the background by bg, and gives the command the terminal by fg", async (t) => {
        const { job, wrapper, command } = await inShell(t)
        job.input.write("\x1a")
        await waitFor(() => state(wrapper) === "T" && state(command) === "T", patient("both to stop"))
        await job.says("Stopped")
        job.input.write("bg\n")
        await job.says("continued\r")
        job.input.write("echo the shell $((1 + 1)) reads\n")
        await job.says("the shell 2 reads")
        job.input.write("fg\n")
        signal(command, "SIGUSR1")
        await job.says("signals: 0")
        await waitFor(() => !alive(wrapper), patient("this program to end"))
        job.input.write("exit\n")
        await job.end()
    })

    test("ends a command that has lost its lock while it stood still", async (t) => {
        const { job, wrapper, command } = await inShell(t, freshUrl({ ...PATIENT, ttl: 7 }))
        job.input.write("\x1a")
        await waitFor(() => state(wrapper) === "T" && state(command) === "T", patient("both to stop"))
        await job.says("Stopped")
        const key = `terminal-${count}/lock.IPC-Mutex-rpm`
        await waitFor(async () => await server.admin.command("EXISTS", key) === 0, patient("the lease to end"))
        job.input.write("fg\n")
        await job.says("was lost")
        await waitFor(() => !alive(wrapper) && !alive(command), patient("both to end"))
        job.input.write("exit $?\n")
        assert.equal((await job.end()).code, 75)
    })
})

test("nothing is left at the server", async () => {
    await noLeftovers(server, { timeout: 18_000 })
})
