"""Distil from Python: digits as arrays, teachers, a distilled file, and a student that is trained on it."""

import numpy as np
from sklearn.datasets import load_digits

import infer

digits = load_digits()
images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # uint8 [N, 1, 8, 8]
labels = digits.target.astype(np.int64)
test = np.arange(len(labels)) % 5 == 0
data = infer.Splits.from_arrays(images[~test], labels[~test], images[test], labels[test], name="digits")

small_images = infer.AugmentOptions(crop=1, flip=False)  # 8 x 8 pixels; and a mirrored digit is none
quick = infer.TeacherOptions(epochs=15, batch=64, optimizer="nesterov", schedule="one_cycle")
recipe = infer.StudentOptions(epochs=None, steps=600, lr=1e-2, schedule="one_cycle", temperature=4.0)

teachers = infer.train_teachers(data, ["convnet_narrow", "convnet_deep"], options=quick, augment=small_images)
for method in ("infer", "infer_plus"):
    options = infer.SetOptions.of_method(method, augment=small_images, student=recipe, proxy_backbone="convnet_narrow")
    small = infer.distill(data, teachers, ipc=10, seed=0, options=options)
    small.save(f"digits-{method}.safetensors")

    small = infer.load(f"digits-{method}.safetensors")
    inputs = infer.InputOptions(augment=small_images)
    student = infer.train_student(small, "convnet_narrow", options=recipe, inputs=inputs)
    accuracy = infer.evaluate(student, data.test).accuracy
    print(f"{method}: {small} -> {100 * accuracy:.1f} % of the test pictures")
