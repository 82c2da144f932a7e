import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { catchSignals, type Signals } from '../cli/signals.ts'
import { DEFECT_CLASSES } from '../sample/defects.ts'
import { generateSample } from '../sample/generate.ts'
import { parseCount, SAMPLE_DEFAULTS } from '../sample/options.ts'
import { sampleProgress } from '../sample/progress.ts'
import { SAMPLE_FORMATS } from '../sample/render.ts'
import { sampleText } from '../sample/summary.ts'
import type { Truth } from '../sample/truth.ts'

const { rows, seed, format, files, start, days, defects } = SAMPLE_DEFAULTS
const orDefault = (text: string, value: string | number): string => `${text} Default: ${value}.`

export default class Sample extends BaseCommand {
  static override summary = 'Make realistic ad traffic with a stated number of defects, and the truth about it.'
  static override description =
    `Writes events-0001.ndjson …, campaigns.csv (reference data) and truth.json (what a run over the folder must find).
The same options give the same bytes. No record has more than one defect; the classes are ${DEFECT_CLASSES.join(', ')}.
Nothing appears in the folder before all of it is complete.`
  static override examples = [
    { description: '100,000 events in four files', command: '<%= config.bin %> <%= command.id %> --out data' },
    { description: 'Two million, gzipped', command: '<%= config.bin %> <%= command.id %> --rows 2M --gzip --out data' },
    {
      description: 'Parquet; 20 late records and 1% copies, no other defects',
      command: '<%= config.bin %> <%= command.id %> --format parquet --defects late=20,duplicate=1% --out data',
    },
    {
      description: 'The day after: goes on in the last file, then in a new one',
      command: '<%= config.bin %> <%= command.id %> --append --rows 50k --out data',
    },
  ]
  static override flags = {
    out: Flags.string({ required: true, helpValue: 'DIR', description: 'Folder; made where it is missing.' }),
    rows: Flags.string({
      helpValue: 'N',
      description: orDefault('Records to write, defects and copies included: 50000, 500k, 2M.', rows),
    }),
    seed: Flags.integer({ helpValue: 'S', description: orDefault('Seed of all chance.', seed) }),
    format: Flags.option({ options: SAMPLE_FORMATS, description: orDefault('Format of the files.', format) })(),
    gzip: Flags.boolean({ description: 'Compress the files (ndjson and csv).' }),
    files: Flags.integer({
      helpValue: 'K',
      description: orDefault('Number of files; with --append, of new files.', `${files}, with --append 1`),
    }),
    start: Flags.string({ helpValue: 'YYYY-MM-DD', description: orDefault('First day, UTC.', start) }),
    days: Flags.integer({ helpValue: 'D', description: orDefault('Days to spread the traffic over.', days) }),
    defects: Flags.string({
      helpValue: 'SPEC',
      description: orDefault(
        'Rate of each class (0.001, 0.1%), none, or counts and rates by class (late=20,duplicate=1%; others none).',
        defects,
      ),
    }),
    append: Flags.boolean({
      exclusive: ['force'],
      description: 'Add --rows more records to the sample in the folder, from its end in time on.',
    }),
    force: Flags.boolean({ description: 'Replace the sample in the folder.' }),
  }

  #signals: Signals | undefined

  async run(): Promise<Truth> {
    const { flags } = await this.parse(Sample)
    const total = flags.rows === undefined ? rows : parseCount(flags.rows)
    const signals = catchSignals()
    this.#signals = signals
    const progress = sampleProgress(!this.jsonEnabled(), total)
    const truth = await generateSample(
      { ...flags, dir: flags.out, rows: total },
      { signal: signals.drain, onProgress: progress.update },
    ).finally(() => {
      progress.stop()
      signals.release()
    })
    this.log(sampleText(flags.out, truth))
    return truth
  }

  protected override async catch(error: Error & { exitCode?: number }): Promise<unknown> {
    const handled = await super.catch(error)
    if (this.#signals?.exit !== undefined) process.exitCode = this.#signals.exit
    return handled
  }
}
