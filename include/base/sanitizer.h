/* SPDX-License-Identifier: ISC
 *
 * sanitizer.h - whether a sanitizer watches what this is compiled for.
 *
 * What is done otherwise then is said where it is done.
 */
#ifndef PGT_BASE_SANITIZER_H
#define PGT_BASE_SANITIZER_H

/* What gcc defines, clang has to be asked for. */
#ifdef __has_feature
#define PGT_HAS_FEATURE(feature) __has_feature(feature)
#else
#define PGT_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || PGT_HAS_FEATURE(thread_sanitizer)
#define PGT_UNDER_TSAN 1
#else
#define PGT_UNDER_TSAN 0
#endif

/* Any that has to see which bytes are read and written. */
#if PGT_UNDER_TSAN || defined(__SANITIZE_ADDRESS__) || PGT_HAS_FEATURE(address_sanitizer) ||       \
    PGT_HAS_FEATURE(memory_sanitizer)
#define PGT_IS_WATCHED 1
#else
#define PGT_IS_WATCHED 0
#endif

#endif
