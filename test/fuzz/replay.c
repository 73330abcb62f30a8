/* SPDX-License-Identifier: ISC
 *
 * replay.c - the main() of a fuzzer where the compiler brings no libFuzzer.
 *
 * Feeds each file named on the command line to the fuzzer once: what a corpus or a crash that
 * was found elsewhere needs.  Makes up no input of its own.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Into a block of exactly its size, so that ASan sees a read past the end. */
static int replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	long size = -1;

	if (file && fseek(file, 0, SEEK_END) == 0)
		size = ftell(file);
	if (size >= 0)
		data = malloc((size_t)size);
	if (size >= 0 && fseek(file, 0, SEEK_SET) == 0 &&
	    fread(data, 1, (size_t)size, file) == (size_t)size) {
		LLVMFuzzerTestOneInput(data, (size_t)size);
	} else {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		size = -1;
	}
	free(data);
	if (file)
		fclose(file);
	return size < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	int failures = 0;

	for (int i = 1; i < argc; i++)
		failures += replay(argv[i]) < 0;
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
