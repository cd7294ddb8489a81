import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { conformance } from "./suite.mjs"

const skip = process.platform !== "linux"

if (!skip) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    after(() => rmSync(folder, { recursive: true }))
    watchLeaks()
    conformance({ name: "lpm", model: "lpm", processes: true, url: (id) => `lpm:${id}?dir=${encodeURIComponent(folder)}` })
}
