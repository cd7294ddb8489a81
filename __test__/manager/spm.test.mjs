import { watchLeaks } from "../support/leaks.mjs"
import { suite } from "./suite.mjs"

watchLeaks()
suite({ name: "spm", url: (id) => `spm:${id}`, steals: true })
