/** The machine under a job: Node.js, and memory against what the job asks for. */
import { totalmem } from 'node:os'
import { version as engineVersion } from '@duckdb/node-api'
import type { Diagnosis, Finding } from '../core/diagnosis.ts'
import { diagnosisAt, type Findings } from '../core/findings.ts'
import type { Job } from '../core/job/job.ts'
import { sizeText } from '../core/job/units.ts'

/** Beside the engine: Node itself, buffers of readers and writers. */
const BESIDE_BYTES = 150e6
/** The engine that makes messages for consumers. */
const MESSAGES_BYTES = 256e6

/** `job` undefined: its file has mistakes. */
export function diagnoseMachine(job: Job | undefined): Diagnosis {
  return diagnosisAt('this machine', async function* (at) {
    yield at.ok('node', `Node.js ${process.version}, DuckDB ${engineVersion()}`)
    if (job !== undefined) yield memory(at, job)
  })
}

function memory(at: Findings, { resources, distribute }: Job): Finding {
  const wanted = resources.memoryLimitBytes + BESIDE_BYTES + (distribute.length > 0 ? MESSAGES_BYTES : 0)
  // Of the control group where there is one: the kernel ends what goes beyond it.
  const constrained = process.constrainedMemory()
  const total = constrained > 0 ? Math.min(totalmem(), constrained) : totalmem()
  const free = Math.min(process.availableMemory(), total)
  const found = `a run takes up to ${sizeText(wanted)}; ${sizeText(free)} of ${sizeText(total)} are free`
  if (wanted <= free) return at.ok('memory', found)
  return at.warning(
    'memory',
    `${found}: the system may end it`,
    wanted > total
      ? 'lower resources.memory_limit, or give the machine more memory'
      : 'lower resources.memory_limit, or end what else takes memory here',
  )
}
