import { join, resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { parseListen } from '../../cli/daemon-flags.ts'
import { AdflowError } from '../../core/errors.ts'
import { systemdUnit } from '../../daemon/systemd-unit.ts'

export default class SystemdPrint extends BaseCommand {
  static override summary = 'Print a systemd unit for the daemon of a folder.'
  static override description =
    `The unit is closed: of the file system the jobs can write in the state directory alone, and of the network they reach this
machine alone. --write and --allow open what they need.`
  static override examples = [
    {
      description: 'Install it',
      command:
        '<%= config.bin %> <%= command.id %> /etc/adflow/jobs --allow 10.0.0.0/8 > /etc/systemd/system/adflow.service',
    },
  ]
  static override args = { folder: Args.string({ required: true, description: 'Folder of job files.' }) }
  static override flags = {
    listen: Flags.string({
      default: '127.0.0.1:9464',
      helpValue: 'HOST:PORT',
      description: 'Where the daemon answers.',
    }),
    push: Flags.string({
      helpValue: 'HOST:PORT',
      description: 'Where the daemon takes pushes; --allow names who may come from elsewhere.',
    }),
    user: Flags.string({
      helpValue: 'NAME',
      description: 'User to run as. Default: one that exists only while the unit runs.',
    }),
    token: Flags.string({ helpValue: 'FILE', description: 'File with the token of the API; systemd hands it over.' }),
    write: Flags.string({
      multiple: true,
      helpValue: 'DIR',
      description: 'Folder outside of the state directory in which jobs write (may be repeated); give --user too.',
    }),
    allow: Flags.string({
      multiple: true,
      helpValue: 'NETWORK',
      description: 'Addresses of sources and stores, such as 10.0.0.0/8, or `any` (may be repeated).',
    }),
  }

  async run(): Promise<{ readonly unit: string }> {
    const { args, flags } = await this.parse(SystemdPrint)
    parseListen(flags.listen)
    if (flags.push !== undefined) parseListen(flags.push)
    const { user, push, token, write = [], allow = [] } = flags
    const wrong = [user ?? '', ...allow].find((each) => /[^\w.:/@-]/.test(each))
    if (wrong !== undefined) throw new AdflowError('USAGE', `\`${wrong}\` cannot stand in a unit`)
    const unit = systemdUnit({
      folder: resolve(args.folder),
      program: [process.execPath, join(this.config.root, 'bin', 'run.js')],
      listen: flags.listen,
      write: write.map((each) => resolve(each)),
      allow,
      ...(push === undefined ? {} : { push }),
      ...(user === undefined ? {} : { user }),
      ...(token === undefined ? {} : { token: resolve(token) }),
    })
    this.log(unit.trimEnd())
    return { unit }
  }
}
