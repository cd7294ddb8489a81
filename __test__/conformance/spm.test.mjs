import { watchLeaks } from "../support/leaks.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
conformance({ name: "spm", model: "spm", url: (id) => `spm:${id}` })
