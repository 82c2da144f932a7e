/** What a job must be, so that several processes can each run a part of it: whatever has to see all records needs one. */
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { parseShard } from '../core/shard.ts'
import { problemsError } from './job-problems.ts'
import type { Pipeline } from './pipeline.ts'
import { type StateDir, shardDirectory } from './state-dir.ts'

const ONE = 'leave out `stream.shards`: such a job is run whole, by one process at a time'

/** @throws AdflowError JOB_INVALID with all that stands in the way */
export async function checkShards({ job, stages }: Pipeline, registry: Registry): Promise<void> {
  if (job.stream.shards === 1) return
  const mistakes: AdflowError[] = []
  const refuse = (path: readonly (string | number)[], message: string, hint = ONE) =>
    mistakes.push(new AdflowError('JOB_INVALID', message, { hint, details: { path } }))
  for (const { type, id, path } of job.extract)
    if ((await registry.get('extractor', type)).sharded !== true)
      refuse(path, `the source ${id} cannot be shared: shards divide the partitions of sources of type kafka`)
  for (const { id, step } of stages)
    if (step.state !== undefined)
      refuse(
        job.steps.find((each) => each.id === id)?.path ?? [],
        `the step ${id} remembers records, and each shard would see a part of them only`,
      )
  for (const rule of job.batchRules)
    if (rule.kind === 'rows')
      refuse(rule.path, `rule ${rule.id} counts the rows of a run, and each shard is a run of its own`)
  if (job.unknown === 'evolve')
    refuse(['contract', 'unknown'], 'each shard would find columns of its own: `unknown: evolve` needs one process')
  for (const { type, id, path } of job.load)
    if ((await registry.get('loader', type)).oneProcess === true)
      refuse(path, `the store ${id} is a file that one process at a time can write`)
  if (mistakes.length > 0) throw problemsError(job, mistakes)
}

/** The state directory of the part that the command line names; of the whole job where it names none. @throws AdflowError USAGE */
export function shardState(directory: string, { name, stream: { shards } }: Job, text: string | undefined): string {
  if (text === undefined) return directory
  const shard = parseShard(text)
  if (shard === undefined || shard.of !== shards)
    throw new AdflowError('USAGE', `--shard ${text} is no part of ${name}, which has ${shards} by \`stream.shards\``, {
      hint: `the parts are 0/${shards} to ${shards - 1}/${shards}`,
    })
  return shards === 1 ? directory : shardDirectory(directory, name, shard)
}

/** @throws AdflowError STATE_SHARDS where the state is not that of a part of the job as it is now */
export function requireShard(
  { path, shard }: StateDir,
  { name, file, stream: { shards } }: Pick<Job, 'name' | 'file' | 'stream'>,
): void {
  if ((shard?.of ?? 1) === shards) return
  const found = shard === undefined ? 'the whole job' : `part ${shard.index} of ${shard.of}`
  throw new AdflowError(
    'STATE_SHARDS',
    `the job ${name} has ${shards === 1 ? 'no shards' : `${shards} shards`}, and ${path} is the state of ${found}`,
    {
      hint:
        shards === 1
          ? `point --state-dir at the folder in which the folder ${name} lies`
          : `\`adflow run ${file} --shard 0/${shards}\` runs the first; for other commands point --state-dir at ${name}/shards/0-of-${shards}`,
    },
  )
}
