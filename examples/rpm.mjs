// Any machine: three unrelated processes count in a file, by read and write, under a lock on a server. The same with all four:
//
//     node examples/rpm.mjs rpm+redis://localhost/counter
//     node examples/rpm.mjs rpm+pgsql://user:password@localhost/counter
//     node examples/rpm.mjs rpm+consul://localhost/counter
//     node examples/rpm.mjs rpm+etcd://localhost/counter
import Mutex from "ipc-mutex"
import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const [ url = "rpm+redis://localhost/counter", counter ] = process.argv.slice(2)

if (counter === undefined) {
    const folder = await mkdtemp(join(tmpdir(), "ipc-mutex-"))
    const file = join(folder, "counter")
    await writeFile(file, "0")
    const children = [ 1, 2, 3 ].map(() => fork(fileURLToPath(import.meta.url), [ url, file ]))
    const exits = await Promise.all(children.map((child) => once(child, "exit")))
    if (exits.some(([ code ]) => code !== 0))
        process.exit(1)
    console.log(`three processes, 20 each: ${await readFile(file, "utf8")}`)
    await rm(folder, { recursive: true })
}
else {
    const mutex = new Mutex(url, { label: "counting example" })
    await mutex.open()
    for (let i = 0; i < 20; i++)
        await mutex.withLock(async () => {
            const read = Number(await readFile(counter, "utf8"))
            await writeFile(counter, String(read + 1))
        })
    await mutex.close()
}

// Prints:
//   three processes, 20 each: 60
