// A cluster: three workers count in a file, by read and write.
//
//     node examples/mpm.mjs
import Mutex from "ipc-mutex"                     // all that the primary has to do is to load it
import cluster from "node:cluster"
import { once } from "node:events"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

if (cluster.isPrimary) {
    const folder = await mkdtemp(join(tmpdir(), "ipc-mutex-"))
    const file = join(folder, "counter")
    await writeFile(file, "0")
    const workers = [ 1, 2, 3 ].map(() => cluster.fork({ COUNTER: file }))
    await Promise.all(workers.map((worker) => once(worker, "exit")))
    console.log(`three workers, 100 each: ${await readFile(file, "utf8")}`)
    await rm(folder, { recursive: true })
}
else {
    const mutex = new Mutex("mpm:counter", { label: `worker ${cluster.worker.id}` })
    await mutex.open()
    for (let i = 0; i < 100; i++)
        await mutex.withLock(async () => {
            const read = Number(await readFile(process.env.COUNTER, "utf8"))
            await writeFile(process.env.COUNTER, String(read + 1))
        })
    await mutex.close()
    cluster.worker.disconnect()
}

// Prints:
//   three workers, 100 each: 300
