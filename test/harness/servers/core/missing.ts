/** How the note of a skipped test begins when only a server is missing: the closing line counts those apart. */
export const NO_SERVER = 'no server:'
