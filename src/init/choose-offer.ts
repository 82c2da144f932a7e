/** Fills in what an address leaves open by what its system offers. */
import type { ComponentEnv } from '../core/contracts.ts'
import type { ExtractorDefinition } from '../core/definitions.ts'
import { collectOffers, type Offer } from '../core/discovery.ts'
import { AdflowError } from '../core/errors.ts'
import type { SourceAddress } from './source-address.ts'

/** Named in the error where there are several. */
const NAMED = 20

/** Raw options that the extractor accepts. @throws AdflowError USAGE where it is open what to read; SOURCE_… */
export async function wholeOptions(
  definition: ExtractorDefinition,
  { type, options }: SourceAddress,
  env: ComponentEnv & { readonly signal: AbortSignal },
): Promise<Readonly<Record<string, unknown>>> {
  const parsed = definition.options.safeParse(options)
  if (parsed.success) return found(definition, options, env)
  const mistake = new AdflowError(
    'USAGE',
    `these are no options of the source ${type}: ${sentences(parsed.error.issues)}`,
    {
      hint: `give them by --set option=value; \`adflow components describe ${type}\` lists them`,
    },
  )
  const { discovery } = definition
  const connection = discovery?.connection.safeParse(options)
  if (discovery === undefined || connection?.success !== true) throw mistake
  const { offers, more } = await collectOffers(discovery, connection.data, env, NAMED, (offer) => fits(offer, options))
  const [only] = offers
  if (only === undefined)
    throw new AdflowError('SOURCE_MISSING', `the source ${type} has nothing of that name`, {
      hint: '`adflow discover` with the same address lists what it has',
    })
  if (offers.length > 1)
    throw new AdflowError(
      'USAGE',
      `the source ${type} offers ${more ? `more than ${NAMED}` : offers.length}: ${offers.map(({ name }) => name).join(', ')}`,
      {
        hint: `say which: ${chosenBy(only)}`,
      },
    )
  const merged = { ...only.options, ...options }
  if (!definition.options.safeParse(merged).success) throw mistake
  return merged
}

/** Better ones than those that were given would do, where their system can tell. */
async function found(
  { options: schema, discovery }: ExtractorDefinition,
  options: Readonly<Record<string, unknown>>,
  env: ComponentEnv & { readonly signal: AbortSignal },
): Promise<Readonly<Record<string, unknown>>> {
  if (discovery === undefined || discovery.open.length === 0) return options
  if (discovery.open.some((option) => option in options)) return options
  const connection = discovery.connection.parse(options)
  const [likeliest] = (await collectOffers(discovery, connection, env, 1)).offers
  const merged = { ...likeliest?.options, ...options }
  return schema.safeParse(merged).success ? merged : options
}

/** Whether it is what the options name already. */
function fits({ options: own }: Offer, options: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(own).every(
    ([option, value]) => options[option] === undefined || typeof value === 'object' || options[option] === value,
  )
}

function chosenBy({ options }: Offer): string {
  const [[option, value] = ['option', 'value']] = Object.entries(options)
  return `--set '${option}=${typeof value === 'string' ? value : JSON.stringify(value)}'`
}

function sentences(issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[]): string {
  return issues.map(({ path, message }) => `${path.length === 0 ? '' : `\`${path.join('.')}\` `}${message}`).join('; ')
}
