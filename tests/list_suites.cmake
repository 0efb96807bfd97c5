# Asks the tests' program for its suites and writes OUTPUT for CTest, with a test for each that runs all of it.
#
# cmake -DPROGRAM=opensora-tests -DOUTPUT=FILE -DLIMIT=SECONDS -P list_suites.cmake
execute_process(COMMAND ${PROGRAM} --gtest_list_tests OUTPUT_VARIABLE LISTED COMMAND_ERROR_IS_FATAL ANY)
# Suites stand at the beginning of a line and end with a dot; their tests are indented.
string(REGEX MATCHALL "\n[A-Za-z0-9_/]+[.]" SUITES "\n${LISTED}")
set(CONTENT "")
foreach(SUITE IN LISTS SUITES)
  string(REGEX REPLACE "[\n.]" "" SUITE "${SUITE}")
  string(APPEND CONTENT
    "add_test([[${SUITE}]] [[${PROGRAM}]] [[--gtest_filter=${SUITE}.*]] --gtest_brief=1)\n"
    "set_tests_properties([[${SUITE}]] PROPERTIES TIMEOUT ${LIMIT} ENVIRONMENT GOMP_SPINCOUNT=0)\n")
endforeach()
file(WRITE ${OUTPUT} "${CONTENT}")
